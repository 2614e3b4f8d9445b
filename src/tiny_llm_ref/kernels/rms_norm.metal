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

// @task(week=2, day=4, number=1)
float numbers[N];
float sum = 0.0f;
for (uint i = 0; i < N; ++i) {
  const uint d = i * threads + t;
  numbers[i] = d < D ? float(x[row + d]) : 0.0f;
  sum += numbers[i] * numbers[i];
}

sum = simd_sum(sum);
if (lane == 0) {
  partial[simd_group] = sum;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
sum = simd_sum(lane < threads / 32 ? partial[lane] : 0.0f);

const float scale = rsqrt(sum / float(D) + eps);
for (uint i = 0; i < N; ++i) {
  const uint d = i * threads + t;
  if (d < D) {
    out[row + d] = T(numbers[i] * scale * float(weight[d]));
  }
}
// @end
