// Flash attention for the last L tokens of each row, whose keys and values, their own included, lie in the blocks of a pool.
//
//   q                (B, H, L, D)     T, any strides
//   k_pool, v_pool   (KV, N, BS, D)   T, given as bytes, read in place. The D numbers of a key are neighbours
//   tables           (B, blocks)      int, any strides; what follows a row's own blocks may be any number
//   lengths          (B,)             int, any stride
//   scale            ()               float
//   out              (B, H, L, D)     T
//
// Template: T; D; BS, the keys of a block.
// Launch:   threadgroup (x, y, z) of 32 · GROUPS threads: the pairs x · BQ … of key/value head y in row z, where pair i is query
//           i / G in head y · G + i % G. So the G query heads of a group, which read the same keys, share a tile of them.

constexpr int GROUPS = 4;         // SIMD groups, with 8 pairs each
constexpr int BQ = 8 * GROUPS;
constexpr int BK = 32;            // keys of a tile, a key for each lane: of several blocks, or of a piece of one
constexpr int STRIDE = D + 4;     // of a row in the tile, to spread a column over the memory banks
constexpr int S_STRIDE = BK + 4;  // of a row of scores

// Queries, keys, values and the output pass through one tile; BQ and BK are equal.
threadgroup float tile[BK * STRIDE];
threadgroup float weights[BQ * S_STRIDE];       // the scores, and then exp(score − m)
threadgroup float diagonal[GROUPS * 64];        // a matrix of 8 × 8 for each SIMD group: multiplied from the left, it scales rows
const float LOWEST = -3.4e38f;

const int lane = thread_index_in_simdgroup;
const int group = simdgroup_index_in_threadgroup;
const int t = thread_position_in_threadgroup.x;
const int first_pair = threadgroup_position_in_grid.x * BQ;
const int kv_head = threadgroup_position_in_grid.y;
const int b = threadgroup_position_in_grid.z;
const int H = q_shape[1];
const int L = q_shape[2];
const int G = H / k_pool_shape[0];
const int pairs = L * G;
const int length = min(int(lengths[b * lengths_strides[0]]), int(tables_shape[1]) * BS);

// Number d of pair i is q[row_q + i % G * q_strides[1] + i / G * q_strides[2] + d * q_strides[3]], and of its result
// out[row_out + (i % G * L + i / G) * D + d].
const size_t row_q = b * q_strides[0] + size_t(kv_head) * G * q_strides[1];
const size_t row_out = (size_t(b) * H + kv_head * G) * L * D;

// Number d of the key at place p of block i is head_k[i * k_block + p * k_step + d]. (Strides are in bytes here.)
const device T* head_k = (const device T*)(k_pool + kv_head * k_pool_strides[0]);
const device T* head_v = (const device T*)(v_pool + kv_head * v_pool_strides[0]);
const size_t k_block = k_pool_strides[1] / sizeof(T);
const size_t v_block = v_pool_strides[1] / sizeof(T);
const int k_step = int(k_pool_strides[2]) / int(sizeof(T));
const int v_step = int(v_pool_strides[2]) / int(sizeof(T));

// For the softmax, four lanes share a row: lane 4 · r + c of a SIMD group has the columns c, c + 4, … of its row r.
const int row = 8 * group + lane / 4;
const int column = lane % 4;

// @task(week=3, day=2, number=3)
for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  const int pair = first_pair + i / D;
  const size_t number = row_q + pair % G * q_strides[1] + pair / G * q_strides[2] + i % D * q_strides[3];
  tile[i / D * STRIDE + i % D] = pair < pairs ? scale * float(q[number]) : 0.0f;
}
for (int i = lane; i < 64; i += 32) {
  diagonal[group * 64 + i] = 0.0f;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

simdgroup_float8x8 query[D / 8];  // this SIMD group's 8 pairs, for as long as the kernel runs
simdgroup_float8x8 sum_v[D / 8];
for (int d = 0; d < D / 8; ++d) {
  simdgroup_load(query[d], &tile[8 * group * STRIDE + 8 * d], STRIDE);
  sum_v[d] = make_filled_simdgroup_matrix<float, 8, 8>(0.0f);
}
float m = LOWEST;  // of this lane's row
float l = 0.0f;
threadgroup_barrier(mem_flags::mem_threadgroup);

const int position = length - L + (first_pair + row) / G;
const int end = min(length, length - L + (first_pair + BQ - 1) / G + 1);  // no pair of this tile sees a key from here on
for (int first = 0; first < end; first += BK) {
  // Each lane looks up the block of one key. The threads of a SIMD group bring numbers of one key at a time, as D is a multiple
  // of 32, and hear where it is from the lane that knows.
  const int lane_key = first + lane;
  const int lane_block = lane_key < end ? int(tables[b * tables_strides[0] + lane_key / BS * tables_strides[1]]) : 0;
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int key = first + i / D;
    const size_t number = simd_broadcast(lane_block, i / D) * k_block + key % BS * k_step + i % D;
    tile[i / D * STRIDE + i % D] = key < end ? float(head_k[number]) : 0.0f;
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
    numbers[i] = key < end && key <= position ? weights[row * S_STRIDE + 4 * i + column] : -INFINITY;
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
    const int key = first + i / D;
    const size_t number = simd_broadcast(lane_block, i / D) * v_block + key % BS * v_step + i % D;
    tile[i / D * STRIDE + i % D] = key < end ? float(head_v[number]) : 0.0f;
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
const int pair = first_pair + row;
if (pair < pairs) {
  for (int d = column; d < D; d += 4) {
    out[row_out + (pair % G * L + pair / G) * D + d] = T(tile[row * STRIDE + d] / l);
  }
}
// @end
