const uint lane = thread_position_in_grid.x;
const uint n = thread_position_in_grid.y;
const uint row = thread_position_in_grid.z;

float sum = 0.0f;
for (uint k = lane * WORD; k < K; k += 32 * WORD) {
  uint rest = w[(n * K + k) / WORD];
  const float scale = float(scales[(n * K + k) / GROUP_SIZE]);
  const float bias = float(biases[(n * K + k) / GROUP_SIZE]);
  for (uint i = k; i < k + WORD; ++i) {
    sum += fma(scale, float(rest & MASK), bias) * float(x[row * K + i]);
    rest >>= BITS;
  }
}
for (uint distance = 1; distance < 32; distance *= 2) {
  sum += simd_shuffle_xor(sum, distance);
}
if (lane == 31) {
  out[row * N + n] = T(sum);
}
