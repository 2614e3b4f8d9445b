// Metal's functions of numbers. Half precision is computed in float and rounded once.
namespace mlx::core::cu::metal {

#define METAL_FLOAT_FUNCTION(name, x, expression)  \
  template <class T, if_t<is_float<T>> = 0>        \
  inline __device__ T name(T number) {             \
    const float x = float(number);                 \
    return T(expression);                          \
  }
#define METAL_FLOAT_FUNCTION_2(name, function)     \
  template <class T, if_t<is_float<T>> = 0>        \
  inline __device__ T name(T x, T y) {             \
    return T(::function(float(x), float(y)));      \
  }

METAL_FLOAT_FUNCTION(exp, x, ::expf(x))
METAL_FLOAT_FUNCTION(exp2, x, ::exp2f(x))
METAL_FLOAT_FUNCTION(log, x, ::logf(x))
METAL_FLOAT_FUNCTION(log2, x, ::log2f(x))
METAL_FLOAT_FUNCTION(log10, x, ::log10f(x))
METAL_FLOAT_FUNCTION(sqrt, x, ::sqrtf(x))
METAL_FLOAT_FUNCTION(rsqrt, x, ::rsqrtf(x))
METAL_FLOAT_FUNCTION(sin, x, ::sinf(x))
METAL_FLOAT_FUNCTION(cos, x, ::cosf(x))
METAL_FLOAT_FUNCTION(tan, x, ::tanf(x))
METAL_FLOAT_FUNCTION(asin, x, ::asinf(x))
METAL_FLOAT_FUNCTION(acos, x, ::acosf(x))
METAL_FLOAT_FUNCTION(atan, x, ::atanf(x))
METAL_FLOAT_FUNCTION(sinh, x, ::sinhf(x))
METAL_FLOAT_FUNCTION(cosh, x, ::coshf(x))
METAL_FLOAT_FUNCTION(tanh, x, ::tanhf(x))
METAL_FLOAT_FUNCTION(floor, x, ::floorf(x))
METAL_FLOAT_FUNCTION(ceil, x, ::ceilf(x))
METAL_FLOAT_FUNCTION(round, x, ::roundf(x))  // halves away from zero; rint: to even
METAL_FLOAT_FUNCTION(rint, x, ::rintf(x))
METAL_FLOAT_FUNCTION(fabs, x, ::fabsf(x))
METAL_FLOAT_FUNCTION(sign, x, float(x > 0.0f) - float(x < 0.0f))
METAL_FLOAT_FUNCTION(saturate, x, ::fminf(::fmaxf(x, 0.0f), 1.0f))

METAL_FLOAT_FUNCTION_2(pow, powf)
METAL_FLOAT_FUNCTION_2(fmod, fmodf)
METAL_FLOAT_FUNCTION_2(atan2, atan2f)
METAL_FLOAT_FUNCTION_2(copysign, copysignf)
METAL_FLOAT_FUNCTION_2(fmax, fmaxf)  // of a number and a NaN: the number
METAL_FLOAT_FUNCTION_2(fmin, fminf)

template <class T, if_t<is_float<T>> = 0>
inline __device__ T fma(T a, T b, T c) {
  return T(::fmaf(float(a), float(b), float(c)));
}

template <class A, class B, class C = common_t<A, B>>
inline __device__ C max(A a, B b) {
  if constexpr (is_integer<C>)
    return C(a) < C(b) ? C(b) : C(a);
  else
    return fmax(C(a), C(b));
}

template <class A, class B, class C = common_t<A, B>>
inline __device__ C min(A a, B b) {
  if constexpr (is_integer<C>)
    return C(b) < C(a) ? C(b) : C(a);
  else
    return fmin(C(a), C(b));
}

template <class T>
inline __device__ T abs(T a) {
  if constexpr (is_integer<T>)
    return a < T(0) ? T(-a) : a;
  else
    return fabs(a);
}

template <class T>
inline __device__ T clamp(T x, scalar_t<T> low, scalar_t<T> high) {
  return min(max(x, low), high);
}

template <class T>
inline __device__ T select(T if_false, scalar_t<T> if_true, bool condition) {
  return condition ? if_true : if_false;
}

template <class T>
inline __device__ bool isnan(T x) {
  return float(x) != float(x);
}

template <class T>
inline __device__ bool isinf(T x) {
  return ::fabsf(float(x)) == numeric_limits<float>::infinity();
}

template <class T>
inline __device__ bool isfinite(T x) {
  return ::fabsf(float(x)) < numeric_limits<float>::infinity();
}

namespace precise = metal;

// What CUDA's hardware has an instruction for; every other function is the same in fast:: as outside of it.
namespace fast {
using namespace metal;
METAL_FLOAT_FUNCTION(exp, x, ::__expf(x))
METAL_FLOAT_FUNCTION(log, x, ::__logf(x))
METAL_FLOAT_FUNCTION(log2, x, ::__log2f(x))
METAL_FLOAT_FUNCTION(sin, x, ::__sinf(x))
METAL_FLOAT_FUNCTION(cos, x, ::__cosf(x))
METAL_FLOAT_FUNCTION_2(pow, __powf)
}  // namespace fast

#undef METAL_FLOAT_FUNCTION
#undef METAL_FLOAT_FUNCTION_2

}  // namespace mlx::core::cu::metal
