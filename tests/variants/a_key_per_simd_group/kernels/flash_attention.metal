// Eight lanes share a query: lane 8 r + c of a SIMD group has keys c, c + 8, … of each tile and numbers c, c + 8, … of o.
const int r = lane / 8, c = lane % 8;
const int query = first_query + first_row + r;
const int position = CAUSAL ? S - L + query : S - 1;  // of the last key that it sees
const int end = CAUSAL ? min(S, S - L + first_query + BQ) : S;

for (int i = t; i < BQ * D; i += 32 * GROUPS) {
  queries[i] = first_query + i / D < L ? float(q[q_start + size_t(first_query) * D + i]) : 0.0f;
}
float o[D / 8] = {};
float m = LOWEST, l = 0.0f;

for (int first = 0; first < end; first += BK) {
  const int count = min(BK, end - first);
  threadgroup_barrier(mem_flags::mem_threadgroup);  // the queries are written, the values of the last tile are read
  for (int j = t / 32; j < count; j += GROUPS) {
    for (int d = lane; d < D; d += 32) {
      tile[j * STRIDE + d] = float(k[k_start + size_t(first + j) * D + d]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float weights[BK / 8];
  float m_tile = LOWEST;
  for (int i = 0; i < BK / 8; ++i) {
    const int j = 8 * i + c;
    float score = -INFINITY;
    if (j < count && first + j <= position) {
      score = 0.0f;
      for (int d = 0; d < D; ++d) {
        score += queries[(first_row + r) * D + d] * tile[j * STRIDE + d];
      }
      score *= scale;
    }
    weights[i] = score;
    m_tile = max(m_tile, score);
  }
  for (int distance = 1; distance < 8; distance *= 2) {
    m_tile = max(m_tile, simd_shuffle_xor(m_tile, distance));
  }
  const float m_new = max(m, m_tile);
  const float factor = exp(m - m_new);
  m = m_new;
  l *= factor;
  for (int i = 0; i < D / 8; ++i) {
    o[i] *= factor;
  }
  for (int i = 0; i < BK / 8; ++i) {
    weights[i] = exp(weights[i] - m);
    l += weights[i];
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = t / 32; j < count; j += GROUPS) {
    for (int d = lane; d < D; d += 32) {
      tile[j * STRIDE + d] = float(v[k_start + size_t(first + j) * D + d]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = 0; j < count; ++j) {
    const float weight = simd_shuffle(weights[j / 8], 8 * r + j % 8);
    for (int i = 0; i < D / 8; ++i) {
      o[i] += weight * tile[j * STRIDE + 8 * i + c];
    }
  }
}

for (int distance = 1; distance < 8; distance *= 2) {
  l += simd_shuffle_xor(l, distance);
}
if (query < L) {
  for (int i = 0; i < D / 8; ++i) {
    out[q_start + size_t(query) * D + 8 * i + c] = T(o[i] / l);
  }
}
