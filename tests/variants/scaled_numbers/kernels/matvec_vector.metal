const uint lane = thread_position_in_grid.x;
const uint last = min((thread_position_in_grid.y + 1) * ROWS, N);  // the row of W after ours
const uint begin = thread_position_in_grid.y * ROWS;
const uint row = thread_position_in_grid.z;
const device uint4* wide = (const device uint4*)w;

float sums[ROWS];
#pragma unroll
for (uint r = 0; r < ROWS; ++r) {
  sums[r] = 0.0f;
}
for (uint k = lane * CHUNK; k < K; k += 32 * CHUNK) {
  float numbers[CHUNK];
#pragma unroll
  for (uint i = 0; i < CHUNK; ++i) {
    numbers[i] = float(x[row * K + k + i]);
  }
#pragma unroll
  for (uint r = 0; r < ROWS; ++r) {
    if (begin + r < last) {
      const uint place = (begin + r) * K + k;
      const float scale = float(scales[place / GROUP_SIZE]);
      const float bias = float(biases[place / GROUP_SIZE]);
      uint4 rest = wide[place / CHUNK];
#pragma unroll
      for (uint i = 0; i < WORD; ++i) {
        const uint4 q = rest & uint4(MASK);
        rest = rest >> BITS;
        sums[r] += (scale * float(q.x) + bias) * numbers[i];
        sums[r] += (scale * float(q.y) + bias) * numbers[WORD + i];
        sums[r] += (scale * float(q.z) + bias) * numbers[2 * WORD + i];
        sums[r] += (scale * float(q.w) + bias) * numbers[3 * WORD + i];
      }
    }
  }
}
#pragma unroll
for (uint r = 0; r < ROWS; ++r) {
  sums[r] = simd_sum(sums[r]);
}
if (lane == 0) {
  for (uint n = begin; n < last; ++n) {
    out[row * N + n] = T(sums[n - begin]);
  }
}
