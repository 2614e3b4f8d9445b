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

// @task(week=2, day=4, number=3)
float query[HEADS][N];
float sum_v[HEADS][N];  // Σ exp(score − m) · v
float m[HEADS];         // the largest score that this team has seen
float l[HEADS];         // Σ exp(score − m)
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
  l[h] = 0.0f;
  for (int i = 0; i < N; ++i) {
    query[h][i] = scale * float(q[b * q_strides[0] + (first_head + h) * q_strides[1] + (i * TEAM + place) * q_strides[3]]);
    sum_v[h][i] = 0.0f;
  }
}

for (int first = 0; first < length; first += TEAMS * KEYS) {
  // Ask for everything before anything is used, so the waits for memory overlap. A team that is left without a key computes
  // with zeros, and gives them no weight: all lanes have to come to the shuffles.
  T keys[KEYS][N] = {};
  T values[KEYS][N] = {};
  for (int j = 0; j < KEYS; ++j) {
    const int key = first + j * TEAMS + team;
    if (key < length) {
      for (int i = 0; i < N; ++i) {
        keys[j][i] = row_k[key * k_step + i * TEAM + place];
        values[j][i] = row_v[key * v_step + i * TEAM + place];
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
      scores[j] = first + j * TEAMS + team < length ? product : -INFINITY;
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

// Merge what the teams found, as the lanes of online softmax are merged.
for (int h = 0; h < HEADS; ++h) {
  if (place == 0) {
    maxima[h * TEAMS + team] = m[h];
    sums[h * TEAMS + team] = l[h];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int h = 0; h < HEADS; ++h) {
  const float team_m = lane < TEAMS ? maxima[h * TEAMS + lane] : LOWEST;
  const float team_l = lane < TEAMS ? sums[h * TEAMS + lane] : 0.0f;
  const float m_total = simd_max(team_m);
  const float l_total = simd_sum(team_l * fast::exp(team_m - m_total));
  const float factor = fast::exp(m[h] - m_total) / l_total;
  for (int i = 0; i < N; ++i) {
    parts[team * D + i * TEAM + place] = sum_v[h][i] * factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = t; d < D; d += 32 * GROUPS) {
    float sum = 0.0f;
    for (int i = 0; i < TEAMS; ++i) {
      sum += parts[i * D + d];
    }
    out[(size_t(b) * H + first_head + h) * D + d] = T(sum);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the next head writes into `parts`
}
// @end
