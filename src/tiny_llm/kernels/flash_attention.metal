// Flash attention for a tile of BQ queries of one head: softmax(q kᵀ · scale) v, a tile of BK keys and values at a time.
//
//   q        (B, H, L, D)    T, contiguous
//   k, v     (B, KV, S, D)   T, contiguous
//   scale    ()              float
//   out      (B, H, L, D)    T
//
// Template: T; D; CAUSAL, whether query i, at position S − L + i, sees the keys up to its own position only.
// Launch:   threadgroup (x, y, z) of 32 · GROUPS threads: queries x · BQ … of head y in row z.

constexpr int GROUPS = 4;              // SIMD groups
constexpr int ROWS = 4;                // queries of a SIMD group
constexpr int BQ = GROUPS * ROWS;
constexpr int BK = 32;                 // a key for each lane
constexpr int N = D / 32;              // a lane has the numbers lane, lane + 32, … of an output row
constexpr int STRIDE = D + 1;          // of a key in the tile: lanes that walk down a column then use different memory banks
const float LOWEST = -3.4e38f;

threadgroup float queries[BQ * D];
threadgroup float tile[BK * STRIDE];   // keys, and then values

const int lane = thread_index_in_simdgroup;
const int t = thread_position_in_threadgroup.x;
const int first_row = simdgroup_index_in_threadgroup * ROWS;  // this SIMD group's, in the tile of queries
const int first_query = threadgroup_position_in_grid.x * BQ;
const int head = threadgroup_position_in_grid.y;
const int b = threadgroup_position_in_grid.z;
const int H = q_shape[1];
const int L = q_shape[2];
const int KV = k_shape[1];
const int S = k_shape[2];
const size_t q_start = (size_t(b) * H + head) * L * D;
const size_t k_start = (size_t(b) * KV + head / (H / KV)) * S * D;  // in v as well

#error "Week 2 Day 4, task 4: flash attention. Read book/src/week2-04-flash-attention.md"
