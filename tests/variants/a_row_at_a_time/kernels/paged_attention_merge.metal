// One part after another, as online softmax meets one number after another.
for (int d = lane; d < D; d += 32) {
  float m = lse[first], l = 1.0f, o = parts[first * D + d];
  for (int p = 1; p < PARTS; ++p) {
    const float m_new = max(m, lse[first + p]);
    const float before = exp(m - m_new), now = exp(lse[first + p] - m_new);
    l = before * l + now;
    o = before * o + now * parts[(first + p) * D + d];
    m = m_new;
  }
  out[out_row + d] = T(o / l);
}
