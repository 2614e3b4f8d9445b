// A SIMD group has a stretch of keys, and each of them is read by its 32 lanes together, a number in D / 32 each.
constexpr int M = D / 32;
const int group = t / 32;
const int stretch = (length + GROUPS - 1) / GROUPS;
const int end = min(length, (group + 1) * stretch);

float query[HEADS][M];
float o[HEADS][M] = {};
float m[HEADS];
float l[HEADS];
for (int h = 0; h < HEADS; ++h) {
  const size_t start = b * q_strides[0] + (first_head + h) * q_strides[1];
  for (int i = 0; i < M; ++i) {
    query[h][i] = float(q[start + (M * lane + i) * q_strides[3]]);
  }
  m[h] = LOWEST;
  l[h] = 0.0f;
}

for (int key = group * stretch; key < end; ++key) {  // as often for each lane of the SIMD group
  float k_part[M], v_part[M];
  for (int i = 0; i < M; ++i) {
    k_part[i] = float(row_k[key * k_step + M * lane + i]);
    v_part[i] = float(row_v[key * v_step + M * lane + i]);
  }
  for (int h = 0; h < HEADS; ++h) {
    float product = 0.0f;
    for (int i = 0; i < M; ++i) {
      product += query[h][i] * k_part[i];
    }
    const float score = simd_sum(product) * scale;
    if (score > m[h]) {
      const float factor = exp(m[h] - score);
      l[h] *= factor;
      for (int i = 0; i < M; ++i) {
        o[h][i] *= factor;
      }
      m[h] = score;
    }
    const float weight = exp(score - m[h]);
    l[h] += weight;
    for (int i = 0; i < M; ++i) {
      o[h][i] += weight * v_part[i];
    }
  }
}

for (int h = 0; h < HEADS; ++h) {
  if (lane == h) {
    maxima[group * HEADS + h] = m[h];
    sums[group * HEADS + h] = l[h];
  }
}
for (int h = 0; h < HEADS; ++h) {
  for (int i = 0; i < M; ++i) {
    parts[group * D + M * lane + i] = o[h][i];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int d = t; d < D; d += 32 * GROUPS) {
    float m_all = LOWEST, l_all = 0.0f, sum = 0.0f;
    for (int g = 0; g < GROUPS; ++g) {
      m_all = max(m_all, maxima[g * HEADS + h]);
    }
    for (int g = 0; g < GROUPS; ++g) {
      const float worth = exp(maxima[g * HEADS + h] - m_all);
      l_all += worth * sums[g * HEADS + h];
      sum += worth * parts[g * D + d];
    }
    out[(size_t(b) * H + first_head + h) * D + d] = T(sum / l_all);
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}
