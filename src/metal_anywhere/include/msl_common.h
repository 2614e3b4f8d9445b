// <metal_common>, <metal_relational>: min, max, clamp, abs, select, dot, and questions to floating-point numbers.
#pragma once
#include "msl_math.h"

namespace metal {

// min and max are overloads as in Metal, so that operands of two types are an error here too.
#define MSL_INTEGER_MIN_MAX(T)                                   \
  MSL_INLINE constexpr T min(T a, T b) { return b < a ? b : a; } \
  MSL_INLINE constexpr T max(T a, T b) { return a < b ? b : a; }
MSL_FOR_EACH_SIGNED_INTEGER(MSL_INTEGER_MIN_MAX)
MSL_FOR_EACH_UNSIGNED_INTEGER(MSL_INTEGER_MIN_MAX)
#undef MSL_INTEGER_MIN_MAX

#define MSL_FLOAT_MIN_MAX(T)                        \
  MSL_INLINE T min(T a, T b) { return fmin(a, b); } \
  MSL_INLINE T max(T a, T b) { return fmax(a, b); } \
  MSL_INLINE T abs(T a) { return fabs(a); }
MSL_FLOAT_MIN_MAX(float)
MSL_FLOAT_MIN_MAX(half)
MSL_FLOAT_MIN_MAX(bfloat)
#undef MSL_FLOAT_MIN_MAX

#define MSL_SIGNED_ABS(T) \
  MSL_INLINE constexpr T abs(T a) { return a < 0 ? (T)-a : a; }
MSL_FOR_EACH_SIGNED_INTEGER(MSL_SIGNED_ABS)
#undef MSL_SIGNED_ABS

#define MSL_UNSIGNED_ABS(T) \
  MSL_INLINE constexpr T abs(T a) { return a; }
MSL_FOR_EACH_UNSIGNED_INTEGER(MSL_UNSIGNED_ABS)
#undef MSL_UNSIGNED_ABS

#define MSL_CLAMP_SELECT(T)                                                           \
  MSL_INLINE T clamp(T x, T low, T high) { return min(max(x, low), high); } \
  MSL_INLINE T select(T if_false, T if_true, bool c) { return c ? if_true : if_false; }
MSL_FOR_EACH_SIGNED_INTEGER(MSL_CLAMP_SELECT)
MSL_FOR_EACH_UNSIGNED_INTEGER(MSL_CLAMP_SELECT)
MSL_CLAMP_SELECT(bool)
MSL_CLAMP_SELECT(float)
MSL_CLAMP_SELECT(half)
MSL_CLAMP_SELECT(bfloat)
#undef MSL_CLAMP_SELECT

template <class A, class B, class V = common_vector_t<A, B>>
MSL_INLINE V min(A a, B b) {
  V left(a), right(b);
  for (int i = 0; i < components_of<V>::count; i++) left[i] = min(left[i], right[i]);
  return left;
}

template <class A, class B, class V = common_vector_t<A, B>>
MSL_INLINE V max(A a, B b) {
  V left(a), right(b);
  for (int i = 0; i < components_of<V>::count; i++) left[i] = max(left[i], right[i]);
  return left;
}

template <class A, class V = vector_t<A>>
MSL_INLINE V abs(A a) {
  V result(a);
  for (int i = 0; i < components_of<V>::count; i++) result[i] = abs(result[i]);
  return result;
}

template <class A, class V = vector_t<A>, class Low, class High>
MSL_INLINE V clamp(A x, Low low, High high) {
  return min(max(x, low), high);
}

template <class T, int N>
MSL_INLINE vec<T, N> select(vec<T, N> if_false, vec<T, N> if_true, vec<bool, N> c) {
  for (int i = 0; i < N; i++) if_false[i] = c[i] ? if_true[i] : if_false[i];
  return if_false;
}

template <class A, class B, class V = common_vector_t<A, B>>
MSL_INLINE auto dot(A a, B b) {
  V product = V(a) * V(b);
  auto sum = product[0];
  for (int i = 1; i < components_of<V>::count; i++) sum += product[i];
  return sum;
}

#define MSL_QUESTION(name, x, expression)                      \
  MSL_INLINE bool name(float x) { return expression; }         \
  template <class T, int N>                                    \
  MSL_INLINE vec<bool, N> name(vec<T, N> v) {                  \
    vec<bool, N> result;                                       \
    for (int i = 0; i < N; i++) result[i] = name(float(v[i])); \
    return result;                                             \
  }
MSL_QUESTION(isnan, x, __builtin_isnan(x))
MSL_QUESTION(isinf, x, __builtin_isinf(x))
MSL_QUESTION(isfinite, x, __builtin_isfinite(x))
#undef MSL_QUESTION

}  // namespace metal
