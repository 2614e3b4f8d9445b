// Everything is transposed: scores are keys by queries, in `weights` with a row for each key, o is numbers by queries, and the
// factors of its columns stand on a diagonal from the right.
for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  const int query = first_query + i / D;
  tile[i / D * STRIDE + i % D] = query < L ? float(q[q_start + query * D + i % D]) * scale : 0.0f;
}
diagonal[64 * group + lane] = 0.0f;
diagonal[64 * group + 32 + lane] = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_float8x8 query_t[D / 8], o_t[D / 8];
for (int d = 0; d < D / 8; ++d) {
  simdgroup_load(query_t[d], &tile[8 * group * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
  o_t[d] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

float m = LOWEST, l = 0.0f;
const int seen = CAUSAL ? S - L + first_query + row + 1 : S;  // keys that this lane's query sees
const int end = CAUSAL ? min(S, S - L + first_query + BQ) : S;
for (int first = 0; first < end; first += BK) {
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the tile is read: queries, or values
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    tile[i / D * STRIDE + i % D] = first + i / D < end ? float(k[k_start + size_t(first) * D + i]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = 0; j < BK; j += 8) {
    simdgroup_float8x8 keys, scores_t;
    simdgroup_load(keys, &tile[j * STRIDE], STRIDE);
    simdgroup_multiply(scores_t, keys, query_t[0]);
    for (int d = 1; d < D / 8; ++d) {
      simdgroup_load(keys, &tile[j * STRIDE + 8 * d], STRIDE);
      simdgroup_multiply_accumulate(scores_t, keys, query_t[d], scores_t);
    }
    simdgroup_store(scores_t, &weights[j * S_STRIDE + 8 * group], S_STRIDE);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  float largest = m;
  for (int j = column; j < BK && first + j < min(seen, end); j += 4) {
    largest = max(largest, weights[j * S_STRIDE + row]);
  }
  largest = max(largest, simd_shuffle_xor(largest, 2));
  largest = max(largest, simd_shuffle_xor(largest, 1));
  float sum = 0.0f;
  for (int j = column; j < BK; j += 4) {
    const float weight = first + j < min(seen, end) ? exp(weights[j * S_STRIDE + row] - largest) : 0.0f;
    weights[j * S_STRIDE + row] = weight;
    sum += weight;
  }
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  const float factor = exp(m - largest);
  l = l * factor + sum;
  m = largest;
  if (column == 3) {
    diagonal[64 * group + 9 * (lane / 4)] = factor;
  }
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    tile[i / D * STRIDE + i % D] = first + i / D < end ? float(v[k_start + size_t(first) * D + i]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 factors, weight_t[BK / 8];
  simdgroup_load(factors, &diagonal[64 * group], 8);
  for (int j = 0; j < BK / 8; ++j) {
    simdgroup_load(weight_t[j], &weights[8 * j * S_STRIDE + 8 * group], S_STRIDE);
  }
  for (int d = 0; d < D / 8; ++d) {
    simdgroup_multiply(o_t[d], o_t[d], factors);
    for (int j = 0; j < BK / 8; ++j) {
      simdgroup_float8x8 values_t;
      simdgroup_load(values_t, &tile[8 * j * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(o_t[d], values_t, weight_t[j], o_t[d]);
    }
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int d = 0; d < D / 8; ++d) {
  simdgroup_store(o_t[d], &tile[8 * group * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int d = column; d < D && first_query + row < L; d += 4) {
  out[q_start + (first_query + row) * D + d] = T(tile[row * STRIDE + d] / l);
}
