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

#error "Week 2 Day 4, task 5: flash attention with simdgroup matrices. Read book/src/week2-04-flash-attention.md"
