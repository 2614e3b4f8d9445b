const uint n = thread_position_in_grid.y;
const uint row = thread_position_in_grid.x;
if (n >= N) {
  return;
}
float sum = 0.0f;
uint word = 0;
float scale = 0.0f, bias = 0.0f;
for (uint k = 0; k < K; ++k) {
  if (k % GROUP_SIZE == 0) {
    scale = float(scales[(n * K + k) / GROUP_SIZE]);
    bias = float(biases[(n * K + k) / GROUP_SIZE]);
  }
  word = k % WORD == 0 ? w[(n * K + k) / WORD] : word >> BITS;
  sum += (scale * float(word & MASK) + bias) * float(x[row * K + k]);
}
out[row * N + n] = T(sum);
