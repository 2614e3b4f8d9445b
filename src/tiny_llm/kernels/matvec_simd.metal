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

#error "Week 2 Day 3, task 3: a SIMD group per row. Read book/src/week2-03-metal-matvec.md"
