// Everything is transposed: scores are keys by pairs, in `weights` with a row for each key, o is numbers by pairs, and the factors
// of its columns stand on a diagonal from the right.
threadgroup int blocks[BK];  // in which block each key of the tile lies
for (int i = group; i < BQ; i += GROUPS) {
  const int pair = first_pair + i;
  for (int d = lane; d < D; d += 32) {
    tile[i * STRIDE + d] = 0.0f;
    if (pair < pairs) {
      tile[i * STRIDE + d] = scale * float(q[row_q + pair % G * q_strides[1] + pair / G * q_strides[2] + d * q_strides[3]]);
    }
  }
}
diagonal[64 * group + lane] = 0.0f;
diagonal[64 * group + 32 + lane] = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_float8x8 query_t[D / 8], o_t[D / 8];
for (int d = 0; d < D / 8; ++d) {
  simdgroup_load(query_t[d], &tile[8 * group * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
  o_t[d] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}

const int end = min(length, length - L + (min(first_pair + BQ, pairs) - 1) / G + 1);
const int seen = min(end, length - L + (first_pair + row) / G + 1);  // keys that this lane's pair sees
float m = LOWEST, l = 0.0f;
for (int first = 0; first < end; first += BK) {
  const int count = min(BK, end - first);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the tile is read: queries, or values
  if (t < count) {
    blocks[t] = int(tables[b * tables_strides[0] + (first + t) / BS * tables_strides[1]]);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = group; j < BK; j += GROUPS) {
    for (int d = lane; d < D; d += 32) {
      tile[j * STRIDE + d] = j < count ? float(head_k[size_t(blocks[j]) * k_block + (first + j) % BS * k_step + d]) : 0.0f;
    }
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
  for (int j = column; j < BK && first + j < seen; j += 4) {
    largest = max(largest, weights[j * S_STRIDE + row]);
  }
  largest = max(largest, simd_shuffle_xor(largest, 2));
  largest = max(largest, simd_shuffle_xor(largest, 1));
  float sum = 0.0f;
  for (int j = column; j < BK; j += 4) {
    const float weight = first + j < seen ? exp(weights[j * S_STRIDE + row] - largest) : 0.0f;
    weights[j * S_STRIDE + row] = weight;
    sum += weight;
  }
  sum += simd_shuffle_xor(sum, 1);
  sum += simd_shuffle_xor(sum, 2);
  const float factor = exp(m - largest);
  l = l * factor + sum;
  m = largest;
  if (column == 0) {
    diagonal[64 * group + 9 * (lane / 4)] = factor;
  }
  for (int j = group; j < BK; j += GROUPS) {
    for (int d = lane; d < D; d += 32) {
      tile[j * STRIDE + d] = j < count ? float(head_v[size_t(blocks[j]) * v_block + (first + j) % BS * v_step + d]) : 0.0f;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 factors, weight_t;
  simdgroup_load(factors, &diagonal[64 * group], 8);
  for (int d = 0; d < D / 8; ++d) {
    simdgroup_multiply(o_t[d], o_t[d], factors);
  }
  for (int j = 0; j < BK; j += 8) {
    simdgroup_load(weight_t, &weights[j * S_STRIDE + 8 * group], S_STRIDE);
    for (int d = 0; d < D / 8; ++d) {
      simdgroup_float8x8 values_t;
      simdgroup_load(values_t, &tile[j * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(o_t[d], values_t, weight_t, o_t[d]);
    }
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int d = 0; d < D / 8; ++d) {
  simdgroup_store(o_t[d], &tile[8 * group * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const int pair = first_pair + row;
for (int d = column; d < D && pair < pairs; d += 4) {
  out[row_out + (size_t(pair % G) * L + pair / G) * D + d] = T(tile[row * STRIDE + d] / l);
}
