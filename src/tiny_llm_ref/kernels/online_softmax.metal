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

// @task(week=2, day=4, number=2)
float m = LOWEST;  // the largest number this lane has seen
float l = 0.0f;    // the sum of exp(number − m) over what it has seen
for (uint s = lane; s < S; s += 32) {
  const float number = float(x[row + s]);
  const float m_new = max(m, number);
  l = l * exp(m - m_new) + exp(number - m_new);
  m = m_new;
}

const float m_total = simd_max(m);
const float l_total = simd_sum(l * exp(m - m_total));

for (uint s = lane; s < S; s += 32) {
  out[row + s] = T(exp(float(x[row + s]) - m_total) / l_total);
}
// @end
