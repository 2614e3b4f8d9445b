float row_part[N] = {};
float squares = 0.0f;
for (uint d = t, i = 0; d < D; d += threads, ++i) {
  row_part[i] = float(x[row + d]);
}
for (uint i = 0; i < N; ++i) {
  squares = fma(row_part[i], row_part[i], squares);
}
for (uint distance = 16; distance > 0; distance /= 2) {
  squares += simd_shuffle_xor(squares, distance);
}
if (lane == 31) {
  partial[simd_group] = squares;
}
threadgroup_barrier(mem_flags::mem_threadgroup);
float total = 0.0f;
for (uint i = 0; i < (threads + 31) / 32; ++i) {
  total += partial[i];
}
const float root = sqrt(total / D + eps);
for (uint d = t, i = 0; d < D; d += threads, ++i) {
  out[row + d] = T(row_part[i] * float(weight[d]) / root);
}
