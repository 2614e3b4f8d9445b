// bfloat: the upper 16 bits of a float. It turns into a float by itself; a float or a half turns into a bfloat only when asked
// (Metal Shading Language Specification 3.1, section 2.1).
#pragma once
#include "msl_types.h"

namespace metal {

struct bfloat_t {
  uint16_t bits;

  bfloat_t() = default;
  MSL_INLINE constexpr explicit bfloat_t(float value) : bits(round(value)) {}
  MSL_INLINE constexpr explicit bfloat_t(half value) : bits(round(float(value))) {}
  template <class Integer, std::enable_if_t<std::is_integral_v<Integer>, int> = 0>
  MSL_INLINE constexpr bfloat_t(Integer value) : bits(round(float(value))) {}

  static MSL_INLINE constexpr bfloat_t from_bits(uint16_t bits) {
    bfloat_t result(0.0f);
    result.bits = bits;
    return result;
  }
  MSL_INLINE constexpr operator float() const { return __builtin_bit_cast(float, uint32_t(bits) << 16); }
  MSL_INLINE constexpr bfloat_t operator-() const { return from_bits(bits ^ 0x8000); }

  template <class U>
  bfloat_t& operator+=(U other) {
    return *this = bfloat_t(float(*this) + float(other));
  }
  template <class U>
  bfloat_t& operator-=(U other) {
    return *this = bfloat_t(float(*this) - float(other));
  }
  template <class U>
  bfloat_t& operator*=(U other) {
    return *this = bfloat_t(float(*this) * float(other));
  }
  template <class U>
  bfloat_t& operator/=(U other) {
    return *this = bfloat_t(float(*this) / float(other));
  }

 private:
  // To the nearest, ties to even. A NaN stays one: rounding could carry it into infinity.
  static MSL_INLINE constexpr uint16_t round(float value) {
    uint32_t u = __builtin_bit_cast(uint32_t, value);
    bool nan = (u & 0x7fffffff) > 0x7f800000;
    return nan ? uint16_t(u >> 16 | 0x40) : uint16_t((u + 0x7fff + (u >> 16 & 1)) >> 16);
  }
};

template <class T>
using if_integral = std::enable_if_t<std::is_integral_v<T>, int>;

// Between two bfloats, or a bfloat and an integer, the result is a bfloat. With a float it is a float: C++'s own rules do that.
#define MSL_BFLOAT_OPERATOR(op, Result)                             \
  MSL_INLINE constexpr Result operator op(bfloat_t a, bfloat_t b) { \
    return Result(float(a) op float(b));                            \
  }                                                                 \
  template <class Integer, if_integral<Integer> = 0>                \
  MSL_INLINE constexpr Result operator op(bfloat_t a, Integer b) {  \
    return Result(float(a) op float(b));                            \
  }                                                                 \
  template <class Integer, if_integral<Integer> = 0>                \
  MSL_INLINE constexpr Result operator op(Integer a, bfloat_t b) {  \
    return Result(float(a) op float(b));                            \
  }
MSL_BFLOAT_OPERATOR(+, bfloat_t)
MSL_BFLOAT_OPERATOR(-, bfloat_t)
MSL_BFLOAT_OPERATOR(*, bfloat_t)
MSL_BFLOAT_OPERATOR(/, bfloat_t)
MSL_BFLOAT_OPERATOR(<, bool)
MSL_BFLOAT_OPERATOR(>, bool)
MSL_BFLOAT_OPERATOR(<=, bool)
MSL_BFLOAT_OPERATOR(>=, bool)
MSL_BFLOAT_OPERATOR(==, bool)
MSL_BFLOAT_OPERATOR(!=, bool)
#undef MSL_BFLOAT_OPERATOR

}  // namespace metal

typedef metal::bfloat_t bfloat;

#ifndef __clang__  // which leaves no other suffixes to us than the standard's, h among them
constexpr bfloat operator"" bf(long double value) { return bfloat(float(value)); }  // 1.5bf
#endif
