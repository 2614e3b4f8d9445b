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

#error "Week 3 Day 2, task 3: prompt chunks over a paged past. Read book/src/week3-02-paged-attention.md"
