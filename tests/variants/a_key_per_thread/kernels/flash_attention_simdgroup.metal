// A lane for each row of scores: eight lanes of a SIMD group have one, the others wait. Where a maximum has grown, o passes through
// the tile, in which its rows are scaled; `diagonal` only holds the factors, in the order of the rows.
const int end = CAUSAL ? min(S, S - L + first_query + BQ) : S;
const int my_row = 8 * group + lane;  // if the lane is one of eight
const int position = CAUSAL ? S - L + first_query + my_row : end;

for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  const int query = first_query + i / D;
  tile[i / D * STRIDE + i % D] = query < L ? scale * float(q[q_start + query * D + i % D]) : 0.0f;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
simdgroup_float8x8 query[D / 8];
simdgroup_float8x8 o[D / 8];
for (int d = 0; d < D / 8; ++d) {
  simdgroup_load(query[d], &tile[8 * (group * STRIDE + d)], STRIDE);
  o[d] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
float m = LOWEST;
float l = 0.0f;

for (int first = 0; first < end; first += BK) {
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int key = first + i / D;
    tile[i / D * STRIDE + i % D] = key < end ? float(k[k_start + key * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  simdgroup_float8x8 scores[BK / 8];
  for (int j = 0; j < BK / 8; ++j) {
    scores[j] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
  }
  for (int d = 0; d < D / 8; ++d) {
    for (int j = 0; j < BK / 8; ++j) {
      simdgroup_float8x8 keys;
      simdgroup_load(keys, &tile[8 * (j * STRIDE + d)], STRIDE, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(scores[j], query[d], keys, scores[j]);
    }
  }
  for (int j = 0; j < BK / 8; ++j) {
    simdgroup_store(scores[j], &weights[8 * (group * S_STRIDE + j)], S_STRIDE);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int d = 0; d < D / 8; ++d) {
    simdgroup_store(o[d], &tile[8 * (group * STRIDE + d)], STRIDE);
  }
  if (lane < 8) {
    float m_new = m;
    for (int j = 0; j < BK && first + j < end && first + j <= position; ++j) {
      m_new = max(m_new, weights[my_row * S_STRIDE + j]);
    }
    const float factor = exp(m - m_new);
    float sum = 0.0f;
    for (int j = 0; j < BK; ++j) {
      const bool visible = first + j < end && first + j <= position;
      const float weight = visible ? exp(weights[my_row * S_STRIDE + j] - m_new) : 0.0f;
      weights[my_row * S_STRIDE + j] = weight;
      sum += weight;
    }
    m = m_new;
    l = factor * l + sum;
    diagonal[my_row] = factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = t; i < BQ * D; i += 32 * GROUPS) {
    tile[i / D * STRIDE + i % D] *= diagonal[i / D];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = 0; d < D / 8; ++d) {
    simdgroup_load(o[d], &tile[8 * (group * STRIDE + d)], STRIDE);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int value = first + i / D;
    tile[i / D * STRIDE + i % D] = value < end ? float(v[k_start + value * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = 0; d < D / 8; ++d) {
    for (int j = 0; j < BK / 8; ++j) {
      simdgroup_float8x8 weight, values;
      simdgroup_load(weight, &weights[8 * (group * S_STRIDE + j)], S_STRIDE);
      simdgroup_load(values, &tile[8 * (j * STRIDE + d)], STRIDE);
      simdgroup_multiply_accumulate(o[d], weight, values, o[d]);
    }
  }
}

threadgroup_barrier(mem_flags::mem_threadgroup);
for (int d = 0; d < D / 8; ++d) {
  simdgroup_store(o[d], &tile[8 * (group * STRIDE + d)], STRIDE);
}
if (lane < 8) {
  diagonal[my_row] = l;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  if (first_query + i / D < L) {
    out[q_start + (first_query + i / D) * D + i % D] = T(tile[i / D * STRIDE + i % D] / diagonal[i / D]);
  }
}
