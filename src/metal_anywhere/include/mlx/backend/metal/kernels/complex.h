// In place of MLX's file, which defines each operation once for each address space: a CPU has one.
#pragma once
#include <metal_stdlib>

template <class T>
struct complex_t;

template <class T>
constexpr bool is_complex_v = false;
template <class T>
constexpr bool is_complex_v<complex_t<T>> = true;

// What a scalar operand of a complex operation may be: bfloat converts only when asked, and here it is.
template <class From, class To>
constexpr bool is_lane_convertible_v = metal::is_convertible_v<From, To> || metal::is_floating_point_v<From>;
template <class U, class T>
using if_complex_scalar = metal::enable_if_t<!is_complex_v<U> && is_lane_convertible_v<U, T>, bool>;

template <class T>
struct complex_t {
  typedef T value_type;
  T real, imag;

  constexpr complex_t() : real(0), imag(0) {}
  constexpr complex_t(T real, T imag) : real(real), imag(imag) {}
  template <class U, if_complex_scalar<U, T> = true>
  constexpr complex_t(U x) : real(T(x)), imag(T(0)) {}
  template <class U, metal::enable_if_t<!metal::is_same_v<U, T>, bool> = true>
  constexpr complex_t(complex_t<U> x) : real(T(x.real)), imag(T(x.imag)) {}
  complex_t(metal::vec<T, 2> v) : real(v.x), imag(v.y) {}

  operator metal::vec<T, 2>() const { return metal::vec<T, 2>(real, imag); }
  template <class U, metal::enable_if_t<metal::is_arithmetic_v<U>, bool> = true>
  constexpr operator U() const {
    return U(real);
  }
};

typedef complex_t<half> complex32_t;
typedef complex_t<float> complex64_t;

template <class T>
constexpr complex_t<T> operator-(complex_t<T> x) {
  return {-x.real, -x.imag};
}

// Each operator for two complex numbers, and for one and a scalar.
#define MSL_COMPLEX_OPERATOR(op, ...)                                  \
  template <class T>                                                   \
  constexpr complex_t<T> operator op(complex_t<T> a, complex_t<T> b) { \
    __VA_ARGS__                                                        \
  }                                                                    \
  template <class T, class U, if_complex_scalar<U, T> = true>          \
  constexpr complex_t<T> operator op(complex_t<T> a, U b) {            \
    return a op complex_t<T>(b);                                       \
  }                                                                    \
  template <class T, class U, if_complex_scalar<U, T> = true>          \
  constexpr complex_t<T> operator op(U a, complex_t<T> b) {            \
    return complex_t<T>(a) op b;                                       \
  }
MSL_COMPLEX_OPERATOR(+, return {a.real + b.real, a.imag + b.imag};)
MSL_COMPLEX_OPERATOR(-, return {a.real - b.real, a.imag - b.imag};)
MSL_COMPLEX_OPERATOR(*, return {a.real * b.real - a.imag * b.imag, a.real * b.imag + a.imag * b.real};)
MSL_COMPLEX_OPERATOR(/, float norm = float(b.real) * b.real + float(b.imag) * b.imag;
                     return {T((float(a.real) * b.real + float(a.imag) * b.imag) / norm),
                             T((float(a.imag) * b.real - float(a.real) * b.imag) / norm)};)
#undef MSL_COMPLEX_OPERATOR

template <class T>
constexpr complex_t<T>& operator+=(complex_t<T>& a, complex_t<T> b) {
  return a = a + b;
}

// As in Python, the remainder has the sign of the divisor, in each part.
template <class T>
complex_t<T> operator%(complex_t<T> a, complex_t<T> b) {
  return {T(a.real - b.real * metal::floor(a.real / b.real)), T(a.imag - b.imag * metal::floor(a.imag / b.imag))};
}

template <class T>
constexpr bool operator==(complex_t<T> a, complex_t<T> b) {
  return a.real == b.real && a.imag == b.imag;
}
template <class T>
constexpr bool operator>(complex_t<T> a, complex_t<T> b) {  // by the real part first, as NumPy sorts
  return a.real > b.real || (a.real == b.real && a.imag > b.imag);
}
template <class T>
constexpr bool operator<(complex_t<T> a, complex_t<T> b) {
  return b > a;
}
template <class T>
constexpr bool operator>=(complex_t<T> a, complex_t<T> b) {
  return a > b || a == b;
}
template <class T>
constexpr bool operator<=(complex_t<T> a, complex_t<T> b) {
  return b >= a;
}
