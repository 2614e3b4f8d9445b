// out[i] = a * x[i] + y[i]: one thread computes one number.
//
// a     one number, float32 (not a pointer: use the name as a value)
// x, y  (n,) of type T
// out   (n,) of type T
//
// The arithmetic is done in float32, and rounded to T once.

// @task(week=2, day=3, number=1)
const uint i = thread_position_in_grid.x;
out[i] = T(a * float(x[i]) + float(y[i]));
// @end
