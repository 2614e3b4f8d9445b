// Sums, products, minima, ... over the lanes of a SIMD group, and prefixes of them.
#pragma once
#include "msl_lanes.h"

namespace msl {

// Sums and products of half precision are computed in float and rounded at the end, as MLX does it for bfloat.
template <class T>
struct wide {
  typedef std::conditional_t<metal::is_floating_point_v<T>, float, T> type;
};
template <class T, int N>
struct wide<vec<T, N>> {
  typedef vec<typename wide<T>::type, N> type;
};
template <class T>
using wide_t = typename wide<T>::type;

struct Sum {
  template <class T>
  static MSL_INLINE T combine(T a, T b) { return T(a + b); }
};
struct Product {
  template <class T>
  static MSL_INLINE T combine(T a, T b) { return T(a * b); }
};
struct Min {
  template <class T>
  static MSL_INLINE T combine(T a, T b) { return metal::min(a, b); }
};
struct Max {
  template <class T>
  static MSL_INLINE T combine(T a, T b) { return metal::max(a, b); }
};
// The resolvers. WIDTH lanes work together: 32, or 4 for quad_sum.

template <class T, class Operation, int WIDTH = SIMD_WIDTH>
MSL_UNCHECKED void reduce(Slot* lanes, uint32_t active) {
  for (int begin = 0; begin < SIMD_WIDTH; begin += WIDTH) {
    wide_t<T> total = wide_t<T>(0);
    bool first = true;
    for (int lane = begin; lane < begin + WIDTH; lane++) {
      if (!takes_part(active, lane)) continue;
      wide_t<T> value(get<T>(lanes[lane]));
      total = first ? value : Operation::combine(total, value);
      first = false;
    }
    for (int lane = begin; lane < begin + WIDTH; lane++)
      if (takes_part(active, lane)) put(lanes[lane], T(total));
  }
}

// Prefix sums and products. Exclusive: each lane gets the total of the lanes before it, the first lane gets `START`.
template <class T, class Operation, int START, bool INCLUSIVE>
MSL_UNCHECKED void scan(Slot* lanes, uint32_t active) {
  wide_t<T> total = wide_t<T>(START);
  for (int lane = 0; lane < SIMD_WIDTH; lane++) {
    if (!takes_part(active, lane)) continue;
    wide_t<T> before = total;
    total = Operation::combine(total, wide_t<T>(get<T>(lanes[lane])));
    put(lanes[lane], T(INCLUSIVE ? total : before));
  }
}

}  // namespace msl
