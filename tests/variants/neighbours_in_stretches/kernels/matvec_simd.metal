const uint lane = thread_index_in_simdgroup;
const uint result = thread_position_in_grid.x / 32;
const uint row = result / N;
const uint n = result - row * N;
const uint words = K / WORD;
const uint stretch = (words + 31) / 32;

float sum = 0.0f;
for (uint i = lane * stretch; i < min((lane + 1) * stretch, words); ++i) {
  const uint word = w[n * words + i];
  float even = 0.0f, odd = 0.0f, x_sum = 0.0f;
  for (uint j = 0; j < WORD; j += 2) {
    const float first = float(x[row * K + i * WORD + j]), second = float(x[row * K + i * WORD + j + 1]);
    even += float((word >> (BITS * j)) & MASK) * first;
    odd += float((word >> (BITS * (j + 1))) & MASK) * second;
    x_sum += first + second;
  }
  const uint group = (n * words + i) / (GROUP_SIZE / WORD);
  sum += float(scales[group]) * (even + odd) + float(biases[group]) * x_sum;
}
const float total = simd_sum(sum);
if (lane == n % 32) {
  out[result] = T(total);
}
