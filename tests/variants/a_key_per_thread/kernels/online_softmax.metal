float m = LOWEST, l = 0.0f;
for (uint s = lane; s < S; s += 32) {
  const float number = float(x[row + s]);
  if (number > m) {
    l = 1.0f + l * exp(m - number);
    m = number;
  } else {
    l += exp(number - m);
  }
}
for (uint distance = 1; distance < 32; distance *= 2) {  // merge pairs of lanes, then pairs of pairs, …
  const float other_m = simd_shuffle_xor(m, distance);
  const float other_l = simd_shuffle_xor(l, distance);
  const float larger = max(m, other_m);
  l = l * exp(m - larger) + other_l * exp(other_m - larger);
  m = larger;
}
const float log_sum = m + log(l);
for (uint s = lane; s < S; s += 32) {
  out[row + s] = T(exp(float(x[row + s]) - log_sum));
}
