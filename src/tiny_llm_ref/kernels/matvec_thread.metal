// out[row, n] = sum over k of x[row, k] * W[n, k]: one thread computes one number of out, and walks all of K.
//
// x               (rows, K)             T
// w               (N, K * BITS / 32)    uint32, several numbers q per word; the first has the lowest BITS bits
// scales, biases  (N, K / GROUP_SIZE)   W[n, k] = scale * q + bias, with the scale and the bias of k's group
// out             (rows, N)             T

constexpr uint WORD = 32 / BITS;  // numbers in a word
constexpr uint MASK = (1u << BITS) - 1;
const uint K = x_shape[1];
const uint N = w_shape[0];

// @task(week=2, day=3, number=2)
const uint n = thread_position_in_grid.x;
const uint row = thread_position_in_grid.y;
const uint groups = K / GROUP_SIZE;

float sum = 0;
for (uint group = 0; group < groups; ++group) {
  float q_dot_x = 0, x_sum = 0;
  for (uint k = group * GROUP_SIZE; k < (group + 1) * GROUP_SIZE; k += WORD) {
    const uint word = w[n * (K / WORD) + k / WORD];
    for (uint i = 0; i < WORD; ++i) {
      const float x_k = float(x[row * K + k + i]);
      q_dot_x += float((word >> (BITS * i)) & MASK) * x_k;
      x_sum += x_k;
    }
  }
  // The sum of (scale * q + bias) * x over a group, with two multiplications for the whole group.
  sum += float(scales[n * groups + group]) * q_dot_x + float(biases[n * groups + group]) * x_sum;
}
out[row * N + n] = T(sum);
// @end
