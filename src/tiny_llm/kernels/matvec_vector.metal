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

#error "Week 2 Day 3, task 4: vectorised loads. Read book/src/week2-03-metal-matvec.md"
