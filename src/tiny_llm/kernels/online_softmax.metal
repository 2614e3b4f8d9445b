// Softmax of one row in two passes instead of three: the maximum and the sum are found together.
//
//   x    (ROWS, S)   T
//   out  (ROWS, S)   T
//
// Template: T.
// Launch:   a SIMD group of 32 lanes per row, alone in its threadgroup.

const float LOWEST = -3.4e38f;  // the running maximum of nothing. Not −inf: (−inf) − (−inf) is nan

const uint S = x_shape[1];
const uint lane = thread_index_in_simdgroup;
const size_t row = size_t(threadgroup_position_in_grid.x) * S;  // where the row begins

#error "Week 2 Day 4, task 2: online softmax. Read book/src/week2-04-flash-attention.md"
