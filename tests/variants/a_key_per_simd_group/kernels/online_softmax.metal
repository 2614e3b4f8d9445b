// All lanes have one maximum in common, after every 32 numbers; each has a sum of its own.
float m = LOWEST, l = 0.0f;
for (uint first = 0; first < S; first += 32) {
  const float number = first + lane < S ? float(x[row + first + lane]) : -INFINITY;
  const float m_new = max(m, simd_max(number));
  l = l * exp(m - m_new) + exp(number - m_new);
  m = m_new;
}
const float inverse = 1.0f / simd_sum(l);
for (uint first = 0; first < S; first += 32) {
  const uint s = first + lane;
  if (s < S) {
    out[row + s] = T(exp(float(x[row + s]) - m) * inverse);
  }
}
