// Scores and weights lie in threadgroup memory, so that any thread can have any of them: for each step the work is dealt out anew.
threadgroup float scores[BQ * BK];
threadgroup float factors[BQ];
constexpr int THREADS = 32 * GROUPS;

float sum_v[BQ * D / THREADS] = {};  // numbers t, t + THREADS, … of the tile of results
float m = LOWEST, l = 0.0f;          // of query t of the tile, in the first BQ threads
for (int i = t; i < BQ * D; i += THREADS) {
  queries[i] = first_query + i / D < L ? float(q[q_start + size_t(first_query) * D + i]) : 0.0f;
}

const int past = CAUSAL ? S - L + first_query : S;  // keys before the tile of queries
for (int first = 0; first < min(S, past + BQ); first += BK) {
  for (int i = t; i < BK * D; i += THREADS) {
    const int key = first + i / D;
    tile[i / D * STRIDE + i % D] = key < S ? float(k[k_start + key * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = t; i < BQ * BK; i += THREADS) {
    const int row = i / BK, key = first + i % BK;
    float score = 0.0f;
    for (int d = D - 1; d >= 0; --d) {
      score = fma(queries[row * D + d], tile[i % BK * STRIDE + d], score);
    }
    scores[i] = key < S && (!CAUSAL || key <= past + row) ? scale * score : -INFINITY;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  if (t < BQ) {
    float m_new = m;
    for (int j = 0; j < BK; ++j) {
      m_new = max(m_new, scores[t * BK + j]);
    }
    factors[t] = exp(m - m_new);
    l *= factors[t];
    for (int j = 0; j < BK; ++j) {
      scores[t * BK + j] = exp(scores[t * BK + j] - m_new);
      l += scores[t * BK + j];
    }
    m = m_new;
  }
  for (int i = t; i < BK * D; i += THREADS) {
    const int key = first + i / D;
    tile[i / D * STRIDE + i % D] = key < S ? float(v[k_start + key * D + i % D]) : 0.0f;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int i = 0; i < BQ * D / THREADS; ++i) {
    const int row = (t + i * THREADS) / D, d = (t + i * THREADS) % D;
    sum_v[i] *= factors[row];
    for (int j = 0; j < BK; ++j) {
      sum_v[i] += scores[row * BK + j] * tile[j * STRIDE + d];
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
}

if (t < BQ) {
  factors[t] = 1.0f / l;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
for (int i = 0; i < BQ * D / THREADS; ++i) {
  const int number = t + i * THREADS;
  if (first_query + number / D < L) {
    out[q_start + size_t(first_query) * D + number] = T(sum_v[i] * factors[number / D]);
  }
}
