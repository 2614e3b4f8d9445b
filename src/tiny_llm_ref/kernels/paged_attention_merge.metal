// Merge what the parts of a split found: each is a softmax over its own keys, and weighs as much as the sum of its exponentials.
//
//   parts  (B, H, PARTS, D)   float: softmax(q kᵀ · scale) v over the keys of each part
//   lse    (B, H, PARTS)      float: ln Σ exp(score) over the keys of each part; -3.4e38 if it has none, but one has some
//   out    (B, H, 1, D)       T
//
// Template: T; D; PARTS.
// Launch:   threadgroup x of 32 threads: head x % H of row x / H.

const int lane = thread_index_in_simdgroup;
const size_t first = size_t(threadgroup_position_in_grid.x) * PARTS;  // of this head's parts
const size_t out_row = size_t(threadgroup_position_in_grid.x) * D;

// @task(week=3, day=2, number=4)
float largest = lse[first];
for (int p = 1; p < PARTS; ++p) {
  largest = max(largest, lse[first + p]);
}
float weights[PARTS];
float total = 0.0f;
for (int p = 0; p < PARTS; ++p) {
  weights[p] = fast::exp(lse[first + p] - largest);
  total += weights[p];
}
for (int d = lane; d < D; d += 32) {
  float sum = 0.0f;
  for (int p = 0; p < PARTS; ++p) {
    sum += weights[p] * parts[(first + p) * D + d];
  }
  out[out_row + d] = T(sum / total);
}
// @end
