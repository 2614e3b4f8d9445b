// out[row, n] = sum over k of x[row, k] * W[n, k]: a SIMD group computes ROWS numbers of out, for ROWS rows of W, and reads
// memory 16 bytes at a time.
//
// x               (rows, K)             T; begins at a multiple of 16 bytes
// w               (N, K * BITS / 32)    uint32, several numbers q per word; the first has the lowest BITS bits
// scales, biases  (N, K / GROUP_SIZE)   W[n, k] = scale * q + bias, with the scale and the bias of k's group
// out             (rows, N)             T

constexpr uint WORD = 32 / BITS;  // numbers in a word
constexpr uint MASK = (1u << BITS) - 1;
constexpr uint CHUNK = 4 * WORD;  // numbers in 16 bytes of w; they are all of one group, and K is a multiple of CHUNK
struct alignas(16) Numbers {      // 16 bytes of x: ((const device Numbers*)x)[i].at[j]
  T at[16 / sizeof(T)];
};
const uint K = x_shape[1];
const uint N = w_shape[0];

// @task(week=2, day=3, number=4)
const uint lane = thread_index_in_simdgroup;
const uint first = thread_position_in_grid.x / 32 * ROWS;
const uint row = thread_position_in_grid.y;
const uint chunks = K / CHUNK, groups = K / GROUP_SIZE;

float sums[ROWS] = {};
for (uint chunk = lane; chunk < chunks; chunk += 32) {
  // Ask for everything before anything is used, so the waits for memory overlap. Where N ends inside our ROWS rows,
  // the last one is read again, and its result thrown away.
  uint4 words[ROWS];
#pragma unroll
  for (uint r = 0; r < ROWS; ++r) {
    words[r] = ((const device uint4*)w)[min(first + r, N - 1) * chunks + chunk];
  }
  float xs[CHUNK], x_sum = 0;
#pragma unroll
  for (uint i = 0; i < CHUNK; i += 16 / sizeof(T)) {
    const Numbers numbers = *(const device Numbers*)(x + row * K + chunk * CHUNK + i);
#pragma unroll
    for (uint j = 0; j < 16 / sizeof(T); ++j) {
      xs[i + j] = float(numbers.at[j]);
      x_sum += xs[i + j];
    }
  }

  // Numbers are not shifted down but masked where they are: the one at place p of a half word is q * 2^(BITS * p). Each place
  // has its own sum, which is divided once. And q becomes a float without a conversion: below 2^23, the bits of 2^23 with
  // those of q are 2^23 + q.
  constexpr uint PLACES = 16 / BITS;
#pragma unroll
  for (uint r = 0; r < ROWS; ++r) {
    const uint parts[4] = {words[r].x, words[r].y, words[r].z, words[r].w};
    float places[PLACES] = {};
#pragma unroll
    for (uint k = 0; k < CHUNK; k += PLACES) {
      const uint half_word = parts[k / WORD] >> (k % WORD * BITS);
#pragma unroll
      for (uint p = 0; p < PLACES; ++p) {
        const uint in_place = half_word & (MASK << (BITS * p));
        places[p] += (as_type<float>(0x4B000000u | in_place) - 8388608.0f) * xs[k + p];
      }
    }
    float q_dot_x = 0;
#pragma unroll
    for (uint p = 0; p < PLACES; ++p) {
      q_dot_x += places[p] * (1.0f / float(1u << (BITS * p)));
    }
    const uint group = min(first + r, N - 1) * groups + chunk * CHUNK / GROUP_SIZE;
    sums[r] += float(scales[group]) * q_dot_x + float(biases[group]) * x_sum;
  }
}
#pragma unroll
for (uint r = 0; r < ROWS; ++r) {
  const float sum = simd_sum(sums[r]);
  if (lane == 0 && first + r < N) {
    out[row * N + first + r] = T(sum);
  }
}
// @end
