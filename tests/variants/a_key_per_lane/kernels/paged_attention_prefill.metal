// Without matrices: the four lanes of a row have D / 4 numbers of its query and of o each, in registers. For a key each of them
// computes a quarter of the score, and two shuffles add them up.
constexpr int QUARTER = D / 4;
const int pair = first_pair + row;
const int seen = pair < pairs ? length - L + pair / G + 1 : 0;  // keys that this row sees
const int end = min(length, length - L + (first_pair + BQ - 1) / G + 1);

float query[QUARTER], o[QUARTER];
for (int i = 0; i < QUARTER; ++i) {
  const size_t number = row_q + pair % G * q_strides[1] + pair / G * q_strides[2] + (4 * i + column) * q_strides[3];
  query[i] = pair < pairs ? scale * float(q[number]) : 0.0f;
  o[i] = 0.0f;
}
float m = LOWEST, l = 0.0f;

for (int first = 0; first < end; first += BK) {
  const int count = min(BK, end - first);
  const int entry = first / BS + lane;
  const int looked_up = entry * BS < first + count ? int(tables[b * tables_strides[0] + entry * tables_strides[1]]) : 0;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = group; j < BK; j += GROUPS) {
    const size_t block = simd_broadcast(looked_up, (first + j) / BS - first / BS);
    for (int d = lane; d < D && j < count; d += 32) {
      tile[j * STRIDE + d] = float(head_k[block * k_block + (first + j) % BS * k_step + d]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  float scores[BK];
  float m_new = m;
  for (int j = 0; j < count; ++j) {
    float product = 0.0f;
    for (int i = 0; i < QUARTER; ++i) {
      product += query[i] * tile[j * STRIDE + 4 * i + column];
    }
    product += simd_shuffle_xor(product, 1);
    product += simd_shuffle_xor(product, 2);
    scores[j] = first + j < seen ? product : -INFINITY;
    m_new = max(m_new, scores[j]);
  }
  const float factor = exp(m - m_new);
  m = m_new;
  l *= factor;
  for (int i = 0; i < QUARTER; ++i) {
    o[i] *= factor;
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = group; j < BK; j += GROUPS) {
    const size_t block = simd_broadcast(looked_up, (first + j) / BS - first / BS);
    for (int d = lane; d < D && j < count; d += 32) {
      tile[j * STRIDE + d] = float(head_v[block * v_block + (first + j) % BS * v_step + d]);
    }
  }
  threadgroup_barrier(mem_flags::mem_threadgroup);
  for (int j = 0; j < count; ++j) {
    const float weight = exp(scores[j] - m);
    l += weight;
    for (int i = 0; i < QUARTER; ++i) {
      o[i] += weight * tile[j * STRIDE + 4 * i + column];
    }
  }
}

if (pair < pairs) {
  for (int i = 0; i < QUARTER; ++i) {
    out[row_out + (pair % G * L + pair / G) * D + 4 * i + column] = T(o[i] / l);
  }
}
