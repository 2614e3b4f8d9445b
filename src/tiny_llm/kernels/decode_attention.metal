// Attention of one new token per row, over that row's cache: out = softmax(q kᵀ · scale) v over the first lengths[b] keys.
//
//   q        (B, H, 1, D)    T, any strides
//   k, v     (B, KV, S, D)   T, given as bytes: pieces of a larger slab, read in place. The D numbers of a key are neighbours
//   lengths  (B,)            int, any stride
//   scale    ()              float
//   out      (B, H, 1, D)    T, contiguous
//
// Template: T; D; HEADS, the query heads of one group that a threadgroup answers together; GROUPS, its SIMD groups.
// Launch:   threadgroup (x, y) of 32 · GROUPS threads: heads x · HEADS … of row y.

constexpr int TEAM = 16;                   // lanes that share a key
constexpr int TEAMS = GROUPS * 32 / TEAM;  // not more than 32
constexpr int N = D / TEAM;                // a lane has the numbers place, place + TEAM, … of its team's keys and values
constexpr int KEYS = 256 / D;              // keys that a team takes in one step
const float LOWEST = -3.4e38f;

threadgroup float maxima[HEADS * TEAMS];
threadgroup float sums[HEADS * TEAMS];
threadgroup float parts[TEAMS * D];  // of one head, a row for each team

const int lane = thread_index_in_simdgroup;
const int t = thread_position_in_threadgroup.x;
const int team = t / TEAM;
const int place = t % TEAM;  // in the team
const int b = threadgroup_position_in_grid.y;
const int first_head = threadgroup_position_in_grid.x * HEADS;
const int H = q_shape[1];
const int kv_head = first_head / (H / k_shape[1]);
const int length = min(int(lengths[b * lengths_strides[0]]), int(k_shape[2]));

// This row's keys and values: number d of key s is row_k[s * k_step + d]. (Strides are in bytes here, as k and v are bytes.)
const device T* row_k = (const device T*)(k + b * k_strides[0] + kv_head * k_strides[1]);
const device T* row_v = (const device T*)(v + b * v_strides[0] + kv_head * v_strides[1]);
const int k_step = int(k_strides[2]) / int(sizeof(T));
const int v_step = int(v_strides[2]) / int(sizeof(T));

#error "Week 2 Day 4, task 3: decode attention over rows of different lengths. Read book/src/week2-04-flash-attention.md"
