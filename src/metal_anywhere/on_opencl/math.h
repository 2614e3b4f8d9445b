// Functions of numbers and vectors, which take and give values: no address space plays a part in them.
#pragma once
#include "types.h"

namespace metal {

// Each is a function of every scalar type, so that other types convert as they do in Metal, and of vectors.
#define METAL_VECTOR_FUNCTIONS(name)                    \
  template <class T, int N>                             \
  vec<T, N> name(vec<T, N>);                            \
  template <class T, int N>                             \
  vec<T, N> name(vec<T, N>, vec<T, N>);                 \
  template <class T, int N>                             \
  vec<T, N> name(vec<T, N>, identity_t<T>);             \
  template <class T, int N>                             \
  vec<T, N> name(identity_t<T>, vec<T, N>);             \
  template <class T, int N>                             \
  vec<T, N> name(vec<T, N>, vec<T, N>, vec<T, N>);      \
  template <class T, int N>                             \
  vec<T, N> name(vec<T, N>, identity_t<T>, identity_t<T>);

#define METAL_FLOAT_FUNCTION(name) \
  float name(float);               \
  half name(half);                 \
  bfloat name(bfloat);             \
  METAL_VECTOR_FUNCTIONS(name)
#define METAL_FLOAT_FUNCTION_2(name) \
  float name(float, float);          \
  half name(half, half);             \
  bfloat name(bfloat, bfloat);       \
  METAL_VECTOR_FUNCTIONS(name)

METAL_FLOAT_FUNCTION(exp)
METAL_FLOAT_FUNCTION(exp2)
METAL_FLOAT_FUNCTION(exp10)
METAL_FLOAT_FUNCTION(log)
METAL_FLOAT_FUNCTION(log2)
METAL_FLOAT_FUNCTION(log10)
METAL_FLOAT_FUNCTION(sqrt)
METAL_FLOAT_FUNCTION(rsqrt)
METAL_FLOAT_FUNCTION(sin)
METAL_FLOAT_FUNCTION(cos)
METAL_FLOAT_FUNCTION(tan)
METAL_FLOAT_FUNCTION(asin)
METAL_FLOAT_FUNCTION(acos)
METAL_FLOAT_FUNCTION(atan)
METAL_FLOAT_FUNCTION(sinh)
METAL_FLOAT_FUNCTION(cosh)
METAL_FLOAT_FUNCTION(tanh)
METAL_FLOAT_FUNCTION(asinh)
METAL_FLOAT_FUNCTION(acosh)
METAL_FLOAT_FUNCTION(atanh)
METAL_FLOAT_FUNCTION(floor)
METAL_FLOAT_FUNCTION(ceil)
METAL_FLOAT_FUNCTION(round)
METAL_FLOAT_FUNCTION(rint)
METAL_FLOAT_FUNCTION(trunc)
METAL_FLOAT_FUNCTION(fract)
METAL_FLOAT_FUNCTION(fabs)
METAL_FLOAT_FUNCTION(sign)
METAL_FLOAT_FUNCTION(saturate)
METAL_FLOAT_FUNCTION_2(pow)
METAL_FLOAT_FUNCTION_2(powr)
METAL_FLOAT_FUNCTION_2(fmod)
METAL_FLOAT_FUNCTION_2(atan2)
METAL_FLOAT_FUNCTION_2(copysign)
METAL_FLOAT_FUNCTION_2(fmax)
METAL_FLOAT_FUNCTION_2(fmin)
METAL_FLOAT_FUNCTION_2(step)
#undef METAL_FLOAT_FUNCTION
#undef METAL_FLOAT_FUNCTION_2

float fma(float, float, float);
half fma(half, half, half);
bfloat fma(bfloat, bfloat, bfloat);
METAL_VECTOR_FUNCTIONS(fma)
METAL_VECTOR_FUNCTIONS(mix)
template <class T, int N>
vec<T, N> mix(vec<T, N>, vec<T, N>, identity_t<T>);
METAL_VECTOR_FUNCTIONS(smoothstep)
float mix(float, float, float);
half mix(half, half, half);
float smoothstep(float, float, float);
float ldexp(float, int);

// Constants of integers are computed, as the size of an array may be one.
#define METAL_INTEGER_FUNCTIONS(T)                                      \
  constexpr T min(T a, T b) { return b < a ? b : a; }                   \
  constexpr T max(T a, T b) { return a < b ? b : a; }                   \
  constexpr T abs(T a) { return a < 0 ? (T)-a : a; }                   \
  constexpr T clamp(T a, T low, T high) { return min(max(a, low), high); }
METAL_SIGNED_INTEGERS(METAL_INTEGER_FUNCTIONS)
METAL_UNSIGNED_INTEGERS(METAL_INTEGER_FUNCTIONS)
METAL_INTEGER_FUNCTIONS(bool)
#undef METAL_INTEGER_FUNCTIONS
#define METAL_FLOAT_FUNCTIONS(T) \
  T min(T, T);                   \
  T max(T, T);                   \
  T abs(T);                      \
  T clamp(T, T, T);
METAL_FLOATS(METAL_FLOAT_FUNCTIONS)
#undef METAL_FLOAT_FUNCTIONS
METAL_VECTOR_FUNCTIONS(min)
METAL_VECTOR_FUNCTIONS(max)
METAL_VECTOR_FUNCTIONS(abs)
METAL_VECTOR_FUNCTIONS(clamp)

template <class T>
T select(T, identity_t<T>, bool);
template <class T, int N, class Mask>
vec<T, N> select(vec<T, N>, vec<T, N>, Mask);

// Bits of integers.
#define METAL_INTEGER_FUNCTION(name, ...) \
  template <class T>                      \
  T name(T, ##__VA_ARGS__);
METAL_INTEGER_FUNCTION(popcount)
METAL_INTEGER_FUNCTION(clz)
METAL_INTEGER_FUNCTION(ctz)
METAL_INTEGER_FUNCTION(reverse_bits)
METAL_INTEGER_FUNCTION(rotate, identity_t<T>)
METAL_INTEGER_FUNCTION(mulhi, identity_t<T>)
METAL_INTEGER_FUNCTION(absdiff, identity_t<T>)
METAL_INTEGER_FUNCTION(extract_bits, uint, uint)
METAL_INTEGER_FUNCTION(insert_bits, identity_t<T>, uint, uint)
#undef METAL_INTEGER_FUNCTION

// Questions.
#define METAL_QUESTION(name)  \
  bool name(float);           \
  template <class T, int N>   \
  vec<int, N> name(vec<T, N>);
METAL_QUESTION(isnan)
METAL_QUESTION(isinf)
METAL_QUESTION(isfinite)
METAL_QUESTION(signbit)
#undef METAL_QUESTION
bool all(bool);
bool any(bool);
template <class T, int N>
bool all(vec<T, N>);
template <class T, int N>
bool any(vec<T, N>);

// Vectors as arrows.
template <class T, int N>
T dot(vec<T, N>, vec<T, N>);
template <class T, int N>
T length(vec<T, N>);
template <class T, int N>
T length_squared(vec<T, N>);
template <class T, int N>
T distance(vec<T, N>, vec<T, N>);
template <class T, int N>
vec<T, N> normalize(vec<T, N>);
template <class T>
vec<T, 3> cross(vec<T, 3>, vec<T, 3>);

namespace fast {
using namespace metal;
}
namespace precise {
using namespace metal;
}

}  // namespace metal
