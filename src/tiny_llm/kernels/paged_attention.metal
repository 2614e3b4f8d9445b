// Attention of one new token per row, over keys and values that lie in the blocks of a pool: row b's key p is in block
// tables[b][p / BS], at place p % BS. The row's blocks are divided evenly among PARTS threadgroups.
//
//   q                (B, H, 1, D)       T, any strides
//   k_pool, v_pool   (KV, N, BS, D)     T, given as bytes, read in place. The D numbers of a key are neighbours
//   tables           (B, blocks)        int, any strides; what follows a row's own blocks may be any number
//   lengths          (B,)               int, any stride
//   scale            ()                 float
//   out              (B, H, PARTS, D)   O: softmax(q kᵀ · scale) v over the keys of the part; 0 if it has none
//   lse              (B, H, PARTS)      float: ln Σ exp(score) over the keys of the part; LOWEST if it has none
//
// Template: T; O; D; BS, the keys of a block; HEADS, the most query heads of one group that a threadgroup answers together;
//           GROUPS, its SIMD groups; PARTS.
// Launch:   threadgroup (x, y, z) of 32 · GROUPS threads: some heads of one group, of row y, over part z.

constexpr int TEAM = 16;                             // lanes that share a key
constexpr int TEAMS = GROUPS * 32 / TEAM;            // not more than 32
constexpr int N = D / TEAM;                          // a lane has the numbers place, place + TEAM, … of its team's keys and values
constexpr int AT_ONCE = 256 / D;
constexpr int KEYS = AT_ONCE < BS ? AT_ONCE : BS;    // keys that a team takes in one step
const float LOWEST = -3.4e38f;

threadgroup float maxima[HEADS * TEAMS];
threadgroup float sums[HEADS * TEAMS];
threadgroup float accumulated[TEAMS * D];  // of one head, a row for each team

const int lane = thread_index_in_simdgroup;
const int t = thread_position_in_threadgroup.x;
const int team = t / TEAM;
const int place = t % TEAM;  // in the team
const int b = threadgroup_position_in_grid.y;
const int part = threadgroup_position_in_grid.z;

// The heads first_head … first_head + heads − 1. The last threadgroup of a group may have fewer than HEADS.
const int H = q_shape[1];
const int group_size = H / k_pool_shape[0];
const int threadgroups = (group_size + HEADS - 1) / HEADS;  // for a group
const int kv_head = threadgroup_position_in_grid.x / threadgroups;
const int in_group = threadgroup_position_in_grid.x % threadgroups * HEADS;
const int first_head = kv_head * group_size + in_group;
const int heads = min(HEADS, group_size - in_group);

// The entries of the row's table that are this part's: first_block … end_block − 1, perhaps none.
const int length = min(int(lengths[b * lengths_strides[0]]), int(tables_shape[1]) * BS);
const int blocks = (length + BS - 1) / BS;
const int blocks_per_part = (blocks + PARTS - 1) / PARTS;
const int first_block = part * blocks_per_part;
const int end_block = min(first_block + blocks_per_part, blocks);

// Number d of the key at place p of block i is head_k[i * k_block + p * k_step + d]. (Strides are in bytes here.)
const device T* head_k = (const device T*)(k_pool + kv_head * k_pool_strides[0]);
const device T* head_v = (const device T*)(v_pool + kv_head * v_pool_strides[0]);
const size_t k_block = k_pool_strides[1] / sizeof(T);
const size_t v_block = v_pool_strides[1] / sizeof(T);
const int k_step = int(k_pool_strides[2]) / int(sizeof(T));
const int v_step = int(v_pool_strides[2]) / int(sizeof(T));
const float score_scale = scale;  // read once

#error "Week 3 Day 2, task 2: decode attention that walks the block table. Read book/src/week3-02-paged-attention.md"
