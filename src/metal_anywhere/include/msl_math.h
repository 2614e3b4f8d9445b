// <metal_math>: functions of floating-point numbers, for float, half, bfloat and vectors of them. Half precision is computed in
// float and rounded once.
#pragma once
#include "msl_vector_operators.h"

namespace metal {

#define MSL_FLOAT_FUNCTION(name, x, expression)                                    \
  MSL_INLINE float name(float x) { return expression; }                            \
  MSL_INLINE half name(half x) { return half(name(float(x))); }                    \
  MSL_INLINE bfloat name(bfloat x) { return bfloat(name(float(x))); }              \
  template <class A, class V = vector_t<A>>                                        \
  MSL_INLINE V name(A a) {                                                         \
    V result(a);                                                                   \
    for (int i = 0; i < components_of<V>::count; i++) result[i] = name(result[i]); \
    return result;                                                                 \
  }

#define MSL_FLOAT_FUNCTION_2(name, function)                                                  \
  MSL_INLINE float name(float x, float y) { return function(x, y); }                          \
  MSL_INLINE half name(half x, half y) { return half(function(float(x), float(y))); }         \
  MSL_INLINE bfloat name(bfloat x, bfloat y) { return bfloat(function(float(x), float(y))); } \
  template <class A, class B, class V = common_vector_t<A, B>>                                \
  MSL_INLINE V name(A a, B b) {                                                               \
    V left(a), right(b);                                                                      \
    for (int i = 0; i < components_of<V>::count; i++) left[i] = name(left[i], right[i]);      \
    return left;                                                                              \
  }

MSL_FLOAT_FUNCTION(exp, x, __builtin_expf(x))
MSL_FLOAT_FUNCTION(exp2, x, __builtin_exp2f(x))
MSL_FLOAT_FUNCTION(log, x, __builtin_logf(x))
MSL_FLOAT_FUNCTION(log2, x, __builtin_log2f(x))
MSL_FLOAT_FUNCTION(log10, x, __builtin_log10f(x))
MSL_FLOAT_FUNCTION(sqrt, x, __builtin_sqrtf(x))
MSL_FLOAT_FUNCTION(rsqrt, x, 1.0f / __builtin_sqrtf(x))
MSL_FLOAT_FUNCTION(sin, x, __builtin_sinf(x))
MSL_FLOAT_FUNCTION(cos, x, __builtin_cosf(x))
MSL_FLOAT_FUNCTION(tan, x, __builtin_tanf(x))
MSL_FLOAT_FUNCTION(asin, x, __builtin_asinf(x))
MSL_FLOAT_FUNCTION(acos, x, __builtin_acosf(x))
MSL_FLOAT_FUNCTION(atan, x, __builtin_atanf(x))
MSL_FLOAT_FUNCTION(sinh, x, __builtin_sinhf(x))
MSL_FLOAT_FUNCTION(cosh, x, __builtin_coshf(x))
MSL_FLOAT_FUNCTION(tanh, x, __builtin_tanhf(x))
MSL_FLOAT_FUNCTION(asinh, x, __builtin_asinhf(x))
MSL_FLOAT_FUNCTION(acosh, x, __builtin_acoshf(x))
MSL_FLOAT_FUNCTION(atanh, x, __builtin_atanhf(x))
MSL_FLOAT_FUNCTION(floor, x, __builtin_floorf(x))
MSL_FLOAT_FUNCTION(ceil, x, __builtin_ceilf(x))
MSL_FLOAT_FUNCTION(round, x, __builtin_roundf(x))  // halves away from zero; rint: to even
MSL_FLOAT_FUNCTION(rint, x, __builtin_rintf(x))
MSL_FLOAT_FUNCTION(fabs, x, __builtin_fabsf(x))
MSL_FLOAT_FUNCTION(sign, x, float(x > 0.0f) - float(x < 0.0f))
MSL_FLOAT_FUNCTION(saturate, x, __builtin_fminf(__builtin_fmaxf(x, 0.0f), 1.0f))

MSL_FLOAT_FUNCTION_2(pow, __builtin_powf)
MSL_FLOAT_FUNCTION_2(fmod, __builtin_fmodf)
MSL_FLOAT_FUNCTION_2(atan2, __builtin_atan2f)
MSL_FLOAT_FUNCTION_2(copysign, __builtin_copysignf)
MSL_FLOAT_FUNCTION_2(fmax, __builtin_fmaxf)  // of a number and a NaN: the number
MSL_FLOAT_FUNCTION_2(fmin, __builtin_fminf)
#undef MSL_FLOAT_FUNCTION
#undef MSL_FLOAT_FUNCTION_2

MSL_INLINE float divide(float x, float y) { return x / y; }
MSL_INLINE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
MSL_INLINE half fma(half a, half b, half c) { return half(__builtin_fmaf(a, b, c)); }
MSL_INLINE bfloat fma(bfloat a, bfloat b, bfloat c) { return bfloat(__builtin_fmaf(a, b, c)); }

template <class T, int N>
MSL_INLINE vec<T, N> fma(vec<T, N> a, vec<T, N> b, vec<T, N> c) {
  for (int i = 0; i < N; i++) c[i] = fma(a[i], b[i], c[i]);
  return c;
}

MSL_INLINE float ldexp(float x, int exponent) { return __builtin_ldexpf(x, exponent); }

// fast:: and precise:: choose between instructions that a CPU does not have: here both are as precise as the C library.
namespace fast = metal;
namespace precise = metal;

}  // namespace metal
