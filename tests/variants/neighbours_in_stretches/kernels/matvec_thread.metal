const uint result = thread_position_in_grid.x;
const uint n = result % N;
const uint row = result / N;
float sum = 0.0f, x_sum = 0.0f, q_dot_x = 0.0f;
for (uint i = 0; i < K / WORD; ++i) {
  const uint word = w[n * (K / WORD) + i];
  for (uint place = WORD; place > 0; --place) {
    const float number = float(x[row * K + i * WORD + place - 1]);
    x_sum += number;
    q_dot_x += number * float((word << (32 - BITS * place)) >> (32 - BITS));
  }
  if ((i + 1) * WORD % GROUP_SIZE == 0) {  // the group ends here
    const uint group = ((n * (K / WORD) + i) * WORD) / GROUP_SIZE;
    sum += float(scales[group]) * q_dot_x;
    sum += float(biases[group]) * x_sum;
    x_sum = 0.0f;
    q_dot_x = 0.0f;
  }
}
out[result] = T(sum);
