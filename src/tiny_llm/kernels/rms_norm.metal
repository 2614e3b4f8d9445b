// RMSNorm of one row: out = x / sqrt(mean(x²) + eps) · weight.
//
//   x       (ROWS, D)   T
//   weight  (D,)        any floating type
//   eps     ()          float
//   out     (ROWS, D)   T
//
// Template: T; N, the numbers of a row that one thread handles.
// Launch:   a threadgroup per row, of `threads` threads, N · threads ≥ D. Thread t handles the numbers t, t + threads, …

threadgroup float partial[32];  // one sum for each SIMD group: a threadgroup has at most 1024 / 32 of them

const uint D = weight_shape[0];
const uint threads = threads_per_threadgroup.x;
const uint t = thread_position_in_threadgroup.x;
const uint lane = thread_index_in_simdgroup;
const uint simd_group = simdgroup_index_in_threadgroup;
const size_t row = size_t(threadgroup_position_in_grid.x) * D;  // where the row begins

#error "Week 2 Day 4, task 1: fused RMSNorm. Read book/src/week2-04-flash-attention.md"
