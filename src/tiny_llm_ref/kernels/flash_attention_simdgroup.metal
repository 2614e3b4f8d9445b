// Flash attention for a tile of BQ queries of one head, with the two products done by SIMD-group matrices of 8 × 8.
//
//   q        (B, H, L, D)    T, contiguous
//   k, v     (B, KV, S, D)   T, contiguous
//   scale    ()              float
//   out      (B, H, L, D)    T
//
// Template: T; D; CAUSAL, whether query i, at position S − L + i, sees the keys up to its own position only.
// Launch:   threadgroup (x, y, z) of 32 · GROUPS threads: queries x · BQ … of head y in row z.

constexpr int GROUPS = 4;        // SIMD groups, with 8 queries each
constexpr int BQ = 8 * GROUPS;
constexpr int BK = 32;
constexpr int STRIDE = D + 4;    // of a row in the tile, to spread a column over the memory banks
constexpr int S_STRIDE = BK + 4; // of a row of scores

// Queries, keys, values and the output pass through one tile; BQ and BK are equal.
threadgroup float tile[BK * STRIDE];
threadgroup float weights[BQ * S_STRIDE];       // the scores, and then exp(score − m)
threadgroup float diagonal[GROUPS * 64];        // a matrix of 8 × 8 for each SIMD group: multiplied from the left, it scales rows
const float LOWEST = -3.4e38f;

const int lane = thread_index_in_simdgroup;
const int group = simdgroup_index_in_threadgroup;
const int t = thread_position_in_threadgroup.x;
const int first_query = threadgroup_position_in_grid.x * BQ;
const int head = threadgroup_position_in_grid.y;
const int b = threadgroup_position_in_grid.z;
const int H = q_shape[1];
const int L = q_shape[2];
const int KV = k_shape[1];
const int S = k_shape[2];
const size_t q_start = (size_t(b) * H + head) * L * D;
const size_t k_start = (size_t(b) * KV + head / (H / KV)) * S * D;  // in v as well

// For the softmax, four lanes share a row: lane 4 · r + c of a SIMD group has the columns c, c + 4, … of its row r.
const int row = 8 * group + lane / 4;
const int column = lane % 4;

// @task(week=2, day=4, number=5)
for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  const int query = first_query + i / D;
  tile[i / D * STRIDE + i % D] = query < L ? scale * float(q[q_start + query * D + i % D]) : 0.0f;
}
for (int i = lane; i < 64; i += 32) {
  diagonal[group * 64 + i] = 0.0f;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

simdgroup_float8x8 query[D / 8];  // this SIMD group's 8 queries, for as long as the kernel runs
simdgroup_float8x8 sum_v[D / 8];
for (int d = 0; d < D / 8; ++d) {
  simdgroup_load(query[d], &tile[8 * group * STRIDE + 8 * d], STRIDE);
  sum_v[d] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
float m = LOWEST;  // of this lane's row
float l = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);

const int position = S - L + first_query + row;
const int end = CAUSAL ? min(S, S - L + first_query + BQ) : S;
for (int first = 0; first < end; first += BK) {
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int key = first + i / D;
    tile[i / D * STRIDE + i % D] = key < end ? float(k[k_start + key * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  for (int j = 0; j < BK / 8; ++j) {
    simdgroup_float8x8 scores = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
    for (int d = 0; d < D / 8; ++d) {
      simdgroup_float8x8 keys;  // transposed: 8 numbers of 8 keys
      simdgroup_load(keys, &tile[8 * j * STRIDE + 8 * d], STRIDE, ulong2(0, 0), true);
      simdgroup_multiply_accumulate(scores, query[d], keys, scores);
    }
    simdgroup_store(scores, &weights[8 * group * S_STRIDE + 8 * j], S_STRIDE);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // scores are written, keys are read

  float numbers[BK / 4];
  float m_new = m;
  for (int i = 0; i < BK / 4; ++i) {
    const int key = first + 4 * i + column;
    const bool visible = key < end && (!CAUSAL || key <= position);
    numbers[i] = visible ? weights[row * S_STRIDE + 4 * i + column] : -INFINITY;
    m_new = max(m_new, numbers[i]);
  }
  m_new = max(m_new, simd_shuffle_xor(m_new, 1));
  m_new = max(m_new, simd_shuffle_xor(m_new, 2));
  const float factor = fast::exp(m - m_new);
  m = m_new;
  l *= factor;  // each of the four lanes sums its own columns
  for (int i = 0; i < BK / 4; ++i) {
    const float weight = fast::exp(numbers[i] - m_new);
    weights[row * S_STRIDE + 4 * i + column] = weight;
    l += weight;
  }
  if (column == 0) {
    diagonal[group * 64 + 9 * (lane / 4)] = factor;
  }
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int value = first + i / D;
    tile[i / D * STRIDE + i % D] = value < end ? float(v[k_start + value * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  simdgroup_float8x8 factors;
  simdgroup_load(factors, &diagonal[group * 64], 8);
  for (int d = 0; d < D / 8; ++d) {
    simdgroup_multiply(sum_v[d], factors, sum_v[d]);
  }
  for (int j = 0; j < BK / 8; ++j) {
    simdgroup_float8x8 weight;
    simdgroup_load(weight, &weights[8 * group * S_STRIDE + 8 * j], S_STRIDE);
    for (int d = 0; d < D / 8; ++d) {
      simdgroup_float8x8 values;
      simdgroup_load(values, &tile[8 * j * STRIDE + 8 * d], STRIDE);
      simdgroup_multiply_accumulate(sum_v[d], weight, values, sum_v[d]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // weights, factors and values are read
}

l += simd_shuffle_xor(l, 1);
l += simd_shuffle_xor(l, 2);
for (int d = 0; d < D / 8; ++d) {
  simdgroup_store(sum_v[d], &tile[8 * group * STRIDE + 8 * d], STRIDE);
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (first_query + row < L) {
  for (int d = column; d < D; d += 4) {
    out[q_start + (first_query + row) * D + d] = T(tile[row * STRIDE + d] / l);
  }
}
// @end
