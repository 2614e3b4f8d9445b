const uint i = threadgroup_position_in_grid.x * threads_per_threadgroup.x + thread_position_in_threadgroup.x;
if (i < uint(x_shape[0])) {
  const float product = a * float(x[i]);
  out[i] = T(product + float(y[i]));
}
