// Each lane has a key of its own and computes its score alone. For the values, the 32 lanes of a SIMD group go through their keys
// together, and each has D / 32 columns.
constexpr int M = D / 32;
const int group = t / 32;
for (int i = t; i < HEADS * D; i += 32 * GROUPS) {  // until the merge, `parts` holds the queries
  parts[i] = float(q[b * q_strides[0] + (first_head + i / D) * q_strides[1] + i % D * q_strides[3]]) * scale;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

float o[HEADS][M] = {};
float m[HEADS];
float l[HEADS] = {};  // of this lane's keys, relative to the SIMD group's m
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
}
for (int first = 32 * group; first < length; first += 32 * GROUPS) {
  float scores[HEADS] = {};
  const bool mine = first + lane < length;
  if (mine) {
    for (int d = 0; d < D; ++d) {
      const float number = float(row_k[(first + lane) * k_step + d]);
      for (int h = 0; h < HEADS; ++h) {
        scores[h] += number * parts[h * D + d];
      }
    }
  }
  for (int h = 0; h < HEADS; ++h) {
    const float m_new = max(m[h], simd_max(mine ? scores[h] : -INFINITY));
    const float factor = exp(m[h] - m_new);
    scores[h] = mine ? exp(scores[h] - m_new) : 0.0f;
    l[h] = l[h] * factor + scores[h];
    m[h] = m_new;
    for (int i = 0; i < M; ++i) {
      o[h][i] *= factor;
    }
  }
  for (int j = 0; j < min(32, length - first); ++j) {
    float value[M];
    for (int i = 0; i < M; ++i) {
      value[i] = float(row_v[(first + j) * v_step + 32 * i + lane]);
    }
    for (int h = 0; h < HEADS; ++h) {
      const float weight = simd_broadcast(scores[h], j);
      for (int i = 0; i < M; ++i) {
        o[h][i] += weight * value[i];
      }
    }
  }
}

// A tree: the upper half of the SIMD groups hands over to the lower half, until one is left.
for (int h = 0; h < HEADS; ++h) {
  l[h] = simd_sum(l[h]);
  for (int half = GROUPS / 2; half > 0; half /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // what `parts` held is read
    if (group >= half && group < 2 * half) {
      if (lane == 0) {
        maxima[group] = m[h];
        sums[group] = l[h];
      }
      for (int i = 0; i < M; ++i) {
        parts[group * D + 32 * i + lane] = o[h][i];
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (group < half) {
      const float m_new = max(m[h], maxima[group + half]);
      const float mine = exp(m[h] - m_new), other = exp(maxima[group + half] - m_new);
      m[h] = m_new;
      l[h] = l[h] * mine + sums[group + half] * other;
      for (int i = 0; i < M; ++i) {
        o[h][i] = o[h][i] * mine + parts[(group + half) * D + 32 * i + lane] * other;
      }
    }
  }
  if (group == 0) {
    for (int i = 0; i < M; ++i) {
      out[(size_t(b) * H + first_head + h) * D + 32 * i + lane] = T(o[h][i] / l[h]);
    }
  }
}
