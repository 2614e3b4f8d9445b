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

// @task(week=2, day=4, number=4)
for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  const int query = first_query + i / D;
  queries[i] = query < L ? scale * float(q[q_start + query * D + i % D]) : 0.0f;
}

float sum_v[ROWS][N];
float m[ROWS];
float l[ROWS];
for (int r = 0; r < ROWS; ++r) {
  m[r] = LOWEST;
  l[r] = 0.0f;
  for (int i = 0; i < N; ++i) {
    sum_v[r][i] = 0.0f;
  }
}

// No query of this tile sees a key from `end` on.
const int end = CAUSAL ? min(S, S - L + first_query + BQ) : S;
for (int first = 0; first < end; first += BK) {
  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int key = first + i / D;
    tile[i / D * STRIDE + i % D] = key < end ? float(k[k_start + key * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Scores: each lane has one key, and compares it with all the rows.
  float scores[ROWS];
  for (int r = 0; r < ROWS; ++r) {
    scores[r] = 0.0f;
  }
  for (int d = 0; d < D; ++d) {
    const float number = tile[lane * STRIDE + d];
    for (int r = 0; r < ROWS; ++r) {
      scores[r] += queries[(first_row + r) * D + d] * number;
    }
  }
  const int key = first + lane;
  for (int r = 0; r < ROWS; ++r) {
    const int position = S - L + first_query + first_row + r;
    const bool visible = key < end && (!CAUSAL || key <= position);
    const float score = visible ? scores[r] : -INFINITY;
    const float m_new = max(m[r], simd_max(score));
    const float factor = fast::exp(m[r] - m_new);
    scores[r] = fast::exp(score - m_new);  // from here on a weight
    l[r] = l[r] * factor + simd_sum(scores[r]);
    m[r] = m_new;
    for (int i = 0; i < N; ++i) {
      sum_v[r][i] *= factor;
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read the keys

  for (int i = t; i < BK * D; i += 32 * GROUPS) {
    const int value = first + i / D;
    tile[i / D * STRIDE + i % D] = value < end ? float(v[k_start + value * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);

  // Values: each lane has N columns, and hears the weights from the lanes that have the keys.
  for (int j = 0; j < BK; ++j) {
    for (int r = 0; r < ROWS; ++r) {
      const float weight = simd_broadcast(scores[r], j);
      for (int i = 0; i < N; ++i) {
        sum_v[r][i] += weight * tile[j * STRIDE + i * 32 + lane];
      }
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // all have read the values
}

for (int r = 0; r < ROWS; ++r) {
  const int query = first_query + first_row + r;
  if (query < L) {
    for (int i = 0; i < N; ++i) {
      out[q_start + query * D + i * 32 + lane] = T(sum_v[r][i] / l[r]);
    }
  }
}
// @end
