// Each lane has a key of its own and computes its score alone. For the values, the 32 lanes of a SIMD group go through their keys
// together, and each has D / 32 columns. The lanes look up one entry of the table each, and tell the others.
constexpr int M = D / 32;
const int group = t / 32;
for (int i = t; i < HEADS * D; i += 32 * GROUPS) {  // until the merge, `accumulated` holds the queries
  const int h = i / D;
  const size_t number = b * q_strides[0] + (first_head + h) * q_strides[1] + i % D * q_strides[3];
  accumulated[i] = h < heads ? float(q[number]) * score_scale : 0.0f;
}
threadgroup_barrier(mem_flags::mem_threadgroup);

float o[HEADS][M] = {};
float m[HEADS];
float l[HEADS] = {};  // of this lane's keys, relative to the SIMD group's m
for (int h = 0; h < HEADS; ++h) {
  m[h] = LOWEST;
}
const int end = min(end_block * BS, length);
for (int first = first_block * BS + 32 * group; first < end; first += 32 * GROUPS) {
  const int count = min(32, end - first);
  const int entry = first / BS + lane;
  const int looked_up = entry * BS < first + count ? int(tables[b * tables_strides[0] + entry * tables_strides[1]]) : 0;
  const size_t block = simd_shuffle(looked_up, (first + lane) / BS - first / BS);
  const int place = (first + lane) % BS;
  const bool mine = lane < count;
  float scores[HEADS] = {};
  if (mine) {
    const device T* key = head_k + block * k_block + place * k_step;
    for (int d = 0; d < D; ++d) {
      const float number = float(key[d]);
      for (int h = 0; h < HEADS; ++h) {
        scores[h] += number * accumulated[h * D + d];
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
  for (int j = 0; j < count; ++j) {
    const size_t its_block = simd_broadcast(looked_up, (first + j) / BS - first / BS);
    float value[M];
    for (int i = 0; i < M; ++i) {
      value[i] = float(head_v[its_block * v_block + (first + j) % BS * v_step + 32 * i + lane]);
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
for (int h = 0; h < heads; ++h) {
  l[h] = simd_sum(l[h]);
  for (int half = GROUPS / 2; half > 0; half /= 2) {
    threadgroup_barrier(mem_flags::mem_threadgroup);  // what `accumulated` held is read
    if (group >= half && group < 2 * half) {
      if (lane == 0) {
        maxima[group] = m[h];
        sums[group] = l[h];
      }
      for (int i = 0; i < M; ++i) {
        accumulated[group * D + 32 * i + lane] = o[h][i];
      }
    }
    threadgroup_barrier(mem_flags::mem_threadgroup);
    if (group < half) {
      const float m_new = max(m[h], maxima[group + half]);
      const float mine = exp(m[h] - m_new), other = exp(maxima[group + half] - m_new);
      m[h] = m_new;
      l[h] = l[h] * mine + sums[group + half] * other;
      for (int i = 0; i < M; ++i) {
        o[h][i] = o[h][i] * mine + accumulated[(group + half) * D + 32 * i + lane] * other;
      }
    }
  }
  if (group == 0) {
    const size_t row = (size_t(b) * H + first_head + h) * PARTS + part;
    const float divisor = l[h] == 0.0f ? 1.0f : l[h];
    for (int i = 0; i < M; ++i) {
      out[row * D + 32 * i + lane] = O(o[h][i] / divisor);
    }
    if (lane == 0) {
      lse[row] = l[h] == 0.0f ? LOWEST : m[h] + log(l[h]);
    }
  }
}
