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

// @task(week=3, day=2, number=2)
float query[HEADS][N];
float sum_v[HEADS][N];  // Σ exp(score − m) · v
float m[HEADS];         // the largest score that this team has seen
float l[HEADS];         // Σ exp(score − m)
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
  l[h] = 0.0f;
  for (int i = 0; i < N; ++i) {
    const size_t number = b * q_strides[0] + (first_head + h) * q_strides[1] + (i * TEAM + place) * q_strides[3];
    query[h][i] = h < heads ? score_scale * float(q[number]) : 0.0f;
    sum_v[h][i] = 0.0f;
  }
}

// Each team takes a block at a time, and looks up where it is once. A team that is left without a block, or a block without
// a key, computes with zeros and gives them no weight: all lanes have to come to the shuffles.
for (int first = first_block; first < end_block; first += TEAMS) {
  const int entry = first + team;
  const int filled = entry < end_block ? min(BS, length - entry * BS) : 0;  // keys of this team's block
  const size_t block = filled > 0 ? tables[b * tables_strides[0] + entry * tables_strides[1]] : 0;
  for (int key = 0; key < BS; key += KEYS) {
    T keys[KEYS][N] = {};  // ask for all of them before the first is used, so the waits for memory overlap
    T values[KEYS][N] = {};
    for (int j = 0; j < KEYS; ++j) {
      if (key + j < filled) {
        for (int i = 0; i < N; ++i) {
          keys[j][i] = head_k[block * k_block + (key + j) * k_step + i * TEAM + place];
          values[j][i] = head_v[block * v_block + (key + j) * v_step + i * TEAM + place];
        }
      }
    }

    for (int h = 0; h < HEADS; ++h) {
      float scores[KEYS];
      float m_new = m[h];
      for (int j = 0; j < KEYS; ++j) {
        float product = 0.0f;
        for (int i = 0; i < N; ++i) {
          product += query[h][i] * float(keys[j][i]);
        }
        for (int distance = TEAM / 2; distance > 0; distance /= 2) {
          product += simd_shuffle_xor(product, distance);
        }
        scores[j] = key + j < filled ? product : -INFINITY;
        m_new = max(m_new, scores[j]);
      }
      const float factor = fast::exp(m[h] - m_new);
      m[h] = m_new;
      l[h] *= factor;
      for (int i = 0; i < N; ++i) {
        sum_v[h][i] *= factor;
      }
      for (int j = 0; j < KEYS; ++j) {
        const float weight = fast::exp(scores[j] - m_new);
        l[h] += weight;
        for (int i = 0; i < N; ++i) {
          sum_v[h][i] += weight * float(values[j][i]);
        }
      }
    }
  }
}

// Merge what the teams found. If none of them has seen a key, l_total is 0, and nothing may be divided by it.
for (int h = 0; h < heads; ++h) {
  if (place == 0) {
    maxima[h * TEAMS + team] = m[h];
    sums[h * TEAMS + team] = l[h];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int h = 0; h < heads; ++h) {
  const float team_m = lane < TEAMS ? maxima[h * TEAMS + lane] : LOWEST;
  const float team_l = lane < TEAMS ? sums[h * TEAMS + lane] : 0.0f;
  const float m_total = simd_max(team_m);
  const float l_total = simd_sum(team_l * fast::exp(team_m - m_total));
  const float factor = l_total > 0.0f ? fast::exp(m[h] - m_total) / l_total : 0.0f;
  for (int i = 0; i < N; ++i) {
    accumulated[team * D + i * TEAM + place] = sum_v[h][i] * factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  const size_t row = (size_t(b) * H + first_head + h) * PARTS + part;
  for (int d = t; d < D; d += 32 * GROUPS) {
    float sum = 0.0f;
    for (int i = 0; i < TEAMS; ++i) {
      sum += accumulated[i * D + d];
    }
    out[row * D + d] = O(sum);
  }
  if (t == 0) {
    lse[row] = l_total > 0.0f ? m_total + log(l_total) : LOWEST;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the next head writes into `accumulated`
}
// @end
