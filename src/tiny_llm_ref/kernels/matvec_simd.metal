// out[row, n] = sum over k of x[row, k] * W[n, k]: the 32 lanes of a SIMD group compute one number of out.
//
// x               (rows, K)             T
// w               (N, K * BITS / 32)    uint32, several numbers q per word; the first has the lowest BITS bits
// scales, biases  (N, K / GROUP_SIZE)   W[n, k] = scale * q + bias, with the scale and the bias of k's group
// out             (rows, N)             T

constexpr uint WORD = 32 / BITS;  // numbers in a word; they are all of one group
constexpr uint MASK = (1u << BITS) - 1;
const uint K = x_shape[1];
const uint N = w_shape[0];

// @task(week=2, day=3, number=3)
const uint lane = thread_index_in_simdgroup;
const uint n = thread_position_in_grid.x / 32;
const uint row = thread_position_in_grid.y;
const uint words = K / WORD, groups = K / GROUP_SIZE;

float sum = 0;
for (uint i = lane; i < words; i += 32) {  // neighbouring lanes read neighbouring words
  const uint word = w[n * words + i];
  float q_dot_x = 0, x_sum = 0;
  for (uint j = 0; j < WORD; ++j) {
    const float x_k = float(x[row * K + i * WORD + j]);
    q_dot_x += float((word >> (BITS * j)) & MASK) * x_k;
    x_sum += x_k;
  }
  const uint group = n * groups + i * WORD / GROUP_SIZE;
  sum += float(scales[group]) * q_dot_x + float(biases[group]) * x_sum;
}
sum = simd_sum(sum);  // all lanes come here, including those without a word
if (lane == 0) {
  out[row * N + n] = T(sum);
}
// @end
