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

#error "Week 3 Day 2, task 4: long contexts, split and merged. Read book/src/week3-02-paged-attention.md"
