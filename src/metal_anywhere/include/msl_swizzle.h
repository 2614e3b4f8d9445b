// What a vector is made of: its components under their names, alone (v.x) and as swizzles (v.xy).
#pragma once
#include "msl_type_traits.h"

namespace metal {

template <class T, int N>
struct vec;

// Components I... of a vector of N: reads as a vector, and assigns to the components it names. It lies in a union with the
// vector's components, so it has no memory of its own. Its own components have no names: a.zw.y, which Metal has, is a.w here.
template <class T, int N, int... I>
struct swizzle {
  typedef vec<T, sizeof...(I)> value;
  T components[N];

  MSL_INLINE operator value() const { return value(components[I]...); }
  MSL_INLINE T operator[](int i) const { return value(*this)[i]; }
  MSL_INLINE swizzle& operator=(const value& other) {
    int i = 0;
    ((components[I] = other[i++]), ...);
    return *this;
  }
  MSL_INLINE swizzle& operator=(const swizzle& other) { return *this = value(other); }
};

// A vector is loaded and stored as a whole, in one access, through the compiler's own vectors. Those end at 16 bytes, as the
// widest access that the compilers report to the runtime: a long4 is two.
template <class T>
using lane_bits = conditional_t<is_integral_v<T> && sizeof(T) == 1, uint8_t, conditional_t<sizeof(T) == 2, uint16_t, T>>;
template <class T, int SIZE>
struct whole_vector {
  static constexpr int parts = SIZE * sizeof(T) > 16 ? SIZE * sizeof(T) / 16 : 1;
  typedef lane_bits<T> part __attribute__((vector_size(SIZE * sizeof(T) / parts)));
  part bits[parts];

  MSL_INLINE void copy(const whole_vector& other) {
    for (int i = 0; i < parts; i++) bits[i] = other.bits[i];
  }
};

template <class T, int N>
struct vec_components;

template <class T>
struct alignas(2 * sizeof(T)) vec_components<T, 2> {
  union {
    whole_vector<T, 2> whole;
    T components[2];
    struct { T x, y; };
    swizzle<T, 2, 0, 0> xx;
    swizzle<T, 2, 0, 1> xy;
    swizzle<T, 2, 1, 0> yx;
    swizzle<T, 2, 1, 1> yy;
  };
};

template <class T>
struct alignas(4 * sizeof(T)) vec_components<T, 3> {  // a vector of three takes the place of four
  union {
    whole_vector<T, 4> whole;
    T components[3];
    struct { T x, y, z; };
    swizzle<T, 3, 0, 1> xy;
    swizzle<T, 3, 0, 2> xz;
    swizzle<T, 3, 1, 0> yx;
    swizzle<T, 3, 1, 2> yz;
    swizzle<T, 3, 2, 0> zx;
    swizzle<T, 3, 2, 1> zy;
    swizzle<T, 3, 0, 1, 2> xyz;
    swizzle<T, 3, 2, 1, 0> zyx;
  };
};

template <class T>
struct alignas(4 * sizeof(T)) vec_components<T, 4> {
  union {
    whole_vector<T, 4> whole;
    T components[4];
    struct { T x, y, z, w; };
    swizzle<T, 4, 0, 1> xy;
    swizzle<T, 4, 0, 2> xz;
    swizzle<T, 4, 0, 3> xw;
    swizzle<T, 4, 1, 0> yx;
    swizzle<T, 4, 1, 2> yz;
    swizzle<T, 4, 1, 3> yw;
    swizzle<T, 4, 2, 0> zx;
    swizzle<T, 4, 2, 1> zy;
    swizzle<T, 4, 2, 3> zw;
    swizzle<T, 4, 3, 0> wx;
    swizzle<T, 4, 3, 1> wy;
    swizzle<T, 4, 3, 2> wz;
    swizzle<T, 4, 0, 1, 2> xyz;
    swizzle<T, 4, 1, 2, 3> yzw;
    swizzle<T, 4, 2, 1, 0> zyx;
    swizzle<T, 4, 0, 0, 0, 0> xxxx;
    swizzle<T, 4, 1, 1, 1, 1> yyyy;
    swizzle<T, 4, 2, 2, 2, 2> zzzz;
    swizzle<T, 4, 3, 3, 3, 3> wwww;
    swizzle<T, 4, 0, 1, 2, 3> xyzw;
    swizzle<T, 4, 1, 2, 3, 0> yzwx;
    swizzle<T, 4, 2, 3, 0, 1> zwxy;
    swizzle<T, 4, 3, 2, 1, 0> wzyx;
  };
};

}  // namespace metal
