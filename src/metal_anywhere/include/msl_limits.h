// <metal_limits>: numeric_limits for integers, float, half and bfloat.
#pragma once
#include "msl_type_traits.h"

namespace metal {

template <class T, class = void>
struct numeric_limits;

template <class T>
struct numeric_limits<T, enable_if_t<is_integral_v<T>>> {
  static constexpr bool is_integer = true;
  static constexpr bool is_signed = T(-1) < T(0);
  static constexpr int digits = is_same_v<T, bool> ? 1 : 8 * sizeof(T) - is_signed;
  static constexpr T max() { return is_same_v<T, bool> ? T(1) : T(~0ull >> (64 - digits)); }
  static constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr T lowest() { return min(); }
};

template <>
struct numeric_limits<float> {
  static constexpr bool is_integer = false, is_signed = true;
  static constexpr int digits = 24;
  static constexpr float max() { return __FLT_MAX__; }
  static constexpr float min() { return __FLT_MIN__; }
  static constexpr float lowest() { return -__FLT_MAX__; }
  static constexpr float infinity() { return __builtin_inff(); }
  static constexpr float quiet_NaN() { return __builtin_nanf(""); }
};

template <>
struct numeric_limits<half> {
  static constexpr bool is_integer = false, is_signed = true;
  static constexpr int digits = 11;
  static constexpr half max() { return half(65504.0f); }
  static constexpr half min() { return half(6.103515625e-05f); }
  static constexpr half lowest() { return half(-65504.0f); }
  static constexpr half infinity() { return half(__builtin_inff()); }
  static constexpr half quiet_NaN() { return half(__builtin_nanf("")); }
};

template <>
struct numeric_limits<bfloat> {
  static constexpr bool is_integer = false, is_signed = true;
  static constexpr int digits = 8;
  static constexpr bfloat max() { return bfloat::from_bits(0x7f7f); }
  static constexpr bfloat min() { return bfloat::from_bits(0x0080); }
  static constexpr bfloat lowest() { return bfloat::from_bits(0xff7f); }
  static constexpr bfloat infinity() { return bfloat::from_bits(0x7f80); }
  static constexpr bfloat quiet_NaN() { return bfloat::from_bits(0x7fc0); }
};

}  // namespace metal
