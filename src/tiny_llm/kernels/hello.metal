// out[i] = a * x[i] + y[i]: one thread computes one number.
//
// a     one number, float32 (not a pointer: use the name as a value)
// x, y  (n,) of type T
// out   (n,) of type T
//
// The arithmetic is done in float32, and rounded to T once.

#error "Week 2 Day 3, task 1: hello, grid. Read book/src/week2-03-metal-matvec.md"
