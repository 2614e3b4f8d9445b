// A SIMD group takes a block at a time, and each of its keys is read by the 32 lanes together, D / 32 numbers each.
constexpr int M = D / 32;
const int group = t / 32;
float query[HEADS][M] = {};
float o[HEADS][M] = {};
float m[HEADS];
float l[HEADS] = {};
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
  for (int i = 0; i < M && h < heads; ++i) {
    query[h][i] = score_scale * float(q[b * q_strides[0] + (first_head + h) * q_strides[1] + (M * lane + i) * q_strides[3]]);
  }
}

for (int entry = first_block + group; entry < end_block; entry += GROUPS) {  // alike for all lanes of the SIMD group
  const size_t block = tables[b * tables_strides[0] + entry * tables_strides[1]];
  const device T* keys = head_k + block * k_block;
  const device T* values = head_v + block * v_block;
  const int filled = min(BS, length - entry * BS);
  for (int key = 0; key < filled; ++key) {
    float k_part[M], v_part[M];
    for (int i = 0; i < M; ++i) {
      k_part[i] = float(keys[key * k_step + M * lane + i]);
      v_part[i] = float(values[key * v_step + M * lane + i]);
    }
    for (int h = 0; h < HEADS; ++h) {
      float product = 0.0f;
      for (int i = 0; i < M; ++i) {
        product += query[h][i] * k_part[i];
      }
      const float score = simd_sum(product);
      const float m_new = max(m[h], score);
      const float factor = exp(m[h] - m_new), weight = exp(score - m_new);
      m[h] = m_new;
      l[h] = l[h] * factor + weight;
      for (int i = 0; i < M; ++i) {
        o[h][i] = o[h][i] * factor + weight * v_part[i];
      }
    }
  }
}

for (int h = 0; h < heads; ++h) {
  if (lane == 0) {
    maxima[group] = m[h];
    sums[group] = l[h];
  }
  for (int i = 0; i < M; ++i) {
    accumulated[group * D + M * lane + i] = o[h][i];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float m_total = LOWEST, l_total = 0.0f;
  for (int g = 0; g < GROUPS; ++g) {
    m_total = max(m_total, maxima[g]);
  }
  for (int g = 0; g < GROUPS; ++g) {
    l_total += sums[g] * exp(maxima[g] - m_total);
  }
  const bool empty = first_block >= end_block;
  const size_t row = ((size_t(b) * H + first_head + h) * PARTS) + part;
  for (int d = t; d < D; d += 32 * GROUPS) {
    float sum = 0.0f;
    for (int g = 0; g < GROUPS; ++g) {
      sum += accumulated[g * D + d] * exp(maxima[g] - m_total);
    }
    out[row * D + d] = O(empty ? 0.0f : sum / l_total);
  }
  if (t == 32 * GROUPS - 1) {
    lse[row] = empty ? LOWEST : m_total + log(l_total);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
