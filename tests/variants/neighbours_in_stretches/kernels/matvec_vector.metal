const uint lane = thread_index_in_simdgroup;
const uint teams = (N + ROWS - 1) / ROWS;  // for a row of x
const uint team = thread_position_in_grid.x / 32;
const uint row = team / teams;
const uint first = team % teams * ROWS;
const uint chunks = K / CHUNK;
constexpr uint PER_GROUP = GROUP_SIZE / CHUNK;
constexpr uint AT_ONCE = 16 / sizeof(T);

float sums[ROWS] = {};
const uint stretch = (chunks + 31) / 32;
for (uint j = 0; j < stretch; ++j) {
  const uint chunk = lane * stretch + j;
  const bool mine = chunk < chunks;
  float numbers[CHUNK] = {}, x_sum = 0.0f;
  if (mine) {
#pragma unroll
    for (uint i = 0; i < CHUNK / AT_ONCE; ++i) {
      const Numbers loaded = ((const device Numbers*)x)[(row * K + chunk * CHUNK) / AT_ONCE + i];
#pragma unroll
      for (uint s = 0; s < AT_ONCE; ++s) {
        numbers[i * AT_ONCE + s] = float(loaded.at[s]);
        x_sum += float(loaded.at[s]);
      }
    }
  }
#pragma unroll
  for (uint r = 0; r < ROWS; ++r) {
    const uint n = first + r;
    if (mine && n < N) {
      const uint4 packed = ((const device uint4*)w)[n * chunks + chunk];
      float4 dots = float4(0.0f);
#pragma unroll
      for (uint i = 0; i < WORD; ++i) {
        const uint4 q = (packed >> (BITS * i)) & MASK;
        dots += float4(float(q.x), float(q.y), float(q.z), float(q.w)) *
                float4(numbers[i], numbers[WORD + i], numbers[2 * WORD + i], numbers[3 * WORD + i]);
      }
      const uint group = (n * chunks + chunk) / PER_GROUP;
      sums[r] += float(scales[group]) * (dots.x + dots.y + dots.z + dots.w) + float(biases[group]) * x_sum;
    }
  }
}
#pragma unroll
for (uint r = 0; r < ROWS; ++r) {
  const float sum = simd_sum(sums[r]);
  if (lane == r && first + r < N) {
    out[row * N + first + r] = T(sum);
  }
}
