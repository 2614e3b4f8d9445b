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

#error "Week 2 Day 3, task 2: one output per thread. Read book/src/week2-03-metal-matvec.md"
