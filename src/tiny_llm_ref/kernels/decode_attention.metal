// Attention of one new token a row, over that row's cache: out = softmax(q kᵀ · scale) v over the first lengths[b] keys.
//
//   q        (B, H, 1, D)    T, any strides
//   k, v     (B, KV, S, D)   T, any strides: they may be pieces of a larger slab, and are read where they lie
//   lengths  (B,)            int
//   scale    ()              float
//   out      (B, H, 1, D)    T, contiguous
//
// Template: T; D; HEADS, the query heads of one group that a threadgroup answers together; GROUPS, its SIMD groups.
// Launch:   threadgroup (x, y) of 32 · GROUPS threads: heads x · HEADS … of row y.

constexpr int N = D / 32;       // a lane has the numbers lane, lane + 32, … of every vector of length D
constexpr int KEYS = 512 / D;  // keys that a SIMD group takes in one step: a lane then waits for 32 numbers at once, not one by one
const float LOWEST = -3.4e38f;

threadgroup float maxima[HEADS * GROUPS];
threadgroup float sums[HEADS * GROUPS];
threadgroup float parts[GROUPS * D];  // of one head, one row for each SIMD group

const int lane = thread_index_in_simdgroup;
const int group = simdgroup_index_in_threadgroup;
const int t = thread_position_in_threadgroup.x;
const int b = threadgroup_position_in_grid.y;
const int first_head = threadgroup_position_in_grid.x * HEADS;
const int H = q_shape[1];
const int kv_head = first_head / (H / k_shape[1]);
const int length = min(int(lengths[b]), int(k_shape[2]));

// Where this lane's first number of this row's keys and values lies, and how far it is to its next number, and to the next key.
const size_t k_start = b * k_strides[0] + kv_head * k_strides[1] + lane * k_strides[3];
const size_t v_start = b * v_strides[0] + kv_head * v_strides[1] + lane * v_strides[3];
const size_t k_next = 32 * k_strides[3], k_step = k_strides[2];
const size_t v_next = 32 * v_strides[3], v_step = v_strides[2];

// @task(week=2, day=4, number=3)
float query[HEADS][N];
float sum_v[HEADS][N];  // Σ exp(score − m) · v
float m[HEADS];         // the largest score so far
float l[HEADS];         // Σ exp(score − m)
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
  l[h] = 0.0f;
  for (int i = 0; i < N; ++i) {
    query[h][i] = scale * float(q[b * q_strides[0] + (first_head + h) * q_strides[1] + (i * 32 + lane) * q_strides[3]]);
    sum_v[h][i] = 0.0f;
  }
}

// The SIMD groups take turns, KEYS keys at a time; inside of one, all lanes work on the same key.
for (int first = group * KEYS; first < length; first += GROUPS * KEYS) {
  // Ask for everything before anything is used, so that the waits for memory overlap. Behind the length, the row's last key is
  // read again, and gets no weight.
  float keys[KEYS][N];
  float values[KEYS][N];
  for (int j = 0; j < KEYS; ++j) {
    const int key = min(first + j, length - 1);
    for (int i = 0; i < N; ++i) {
      keys[j][i] = float(k[k_start + key * k_step + i * k_next]);
      values[j][i] = float(v[v_start + key * v_step + i * v_next]);
    }
  }

  float scores[HEADS][KEYS];
  for (int j = 0; j < KEYS; ++j) {
    for (int h = 0; h < HEADS; ++h) {
      float product = 0.0f;
      for (int i = 0; i < N; ++i) {
        product += query[h][i] * keys[j][i];
      }
      product = simd_sum(product);
      scores[h][j] = first + j < length ? product : -INFINITY;
    }
  }
  for (int h = 0; h < HEADS; ++h) {
    float m_new = m[h];
    for (int j = 0; j < KEYS; ++j) {
      m_new = max(m_new, scores[h][j]);
    }
    const float factor = fast::exp(m[h] - m_new);
    m[h] = m_new;
    l[h] *= factor;
    for (int i = 0; i < N; ++i) {
      sum_v[h][i] *= factor;
    }
    for (int j = 0; j < KEYS; ++j) {
      const float weight = fast::exp(scores[h][j] - m_new);
      l[h] += weight;
      for (int i = 0; i < N; ++i) {
        sum_v[h][i] += weight * values[j][i];
      }
    }
  }
}

// Merge what the SIMD groups found, as the lanes of online softmax are merged.
for (int h = 0; h < HEADS; ++h) {
  if (lane == 0) {
    maxima[h * GROUPS + group] = m[h];
    sums[h * GROUPS + group] = l[h];
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int h = 0; h < HEADS; ++h) {
  const float group_m = lane < GROUPS ? maxima[h * GROUPS + lane] : LOWEST;
  const float group_l = lane < GROUPS ? sums[h * GROUPS + lane] : 0.0f;
  const float m_total = simd_max(group_m);
  const float l_total = simd_sum(group_l * fast::exp(group_m - m_total));
  const float factor = fast::exp(m[h] - m_total) / l_total;
  for (int i = 0; i < N; ++i) {
    parts[group * D + i * 32 + lane] = sum_v[h][i] * factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = t; d < D; d += 32 * GROUPS) {
    float sum = 0.0f;
    for (int g = 0; g < GROUPS; ++g) {
      sum += parts[g * D + d];
    }
    out[(size_t(b) * H + first_head + h) * D + d] = T(sum);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the next head writes into `parts`
}
// @end
