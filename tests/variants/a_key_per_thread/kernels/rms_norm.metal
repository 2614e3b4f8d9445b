float numbers[N];
float sum = 0.0f;
for (uint i = 0; i < N; ++i) {
  const uint d = t + i * threads;
  if (d < D) {
    numbers[i] = float(x[row + d]);
    sum += numbers[i] * numbers[i] / float(D);
  }
}
const float of_group = simd_sum(sum);
if (lane == simd_group) {
  partial[lane] = of_group;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
if (simd_group == 0) {  // one SIMD group adds up for all of them
  const float mean = simd_sum(t * 32 < threads ? partial[lane] : 0.0f);
  if (t == 0) {
    partial[0] = rsqrt(mean + eps);
  }
}
threadgroup_barrier(mem_flags::mem_threadgroup);
const float factor = partial[0];
for (uint i = 0; i < N && t + i * threads < D; ++i) {
  const uint d = t + i * threads;
  out[row + d] = T(float(weight[d]) * (numbers[i] * factor));
}
