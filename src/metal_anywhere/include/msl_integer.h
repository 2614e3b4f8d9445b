// <metal_integer>: bits of integers.
#pragma once
#include "msl_common.h"

namespace metal {

template <class T>
constexpr int bits_of = 8 * sizeof(T);

template <class T, if_integral<T> = 0>
MSL_INLINE T popcount(T x) {
  return T(__builtin_popcountll(make_unsigned_t<T>(x)));
}

// Zeros before the first 1, from the top (clz) or from the bottom (ctz); for 0, all the bits.
template <class T, if_integral<T> = 0>
MSL_INLINE T clz(T x) {
  return x ? T(__builtin_clzll(make_unsigned_t<T>(x)) - (64 - bits_of<T>)) : T(bits_of<T>);
}

template <class T, if_integral<T> = 0>
MSL_INLINE T ctz(T x) {
  return x ? T(__builtin_ctzll(make_unsigned_t<T>(x))) : T(bits_of<T>);
}

template <class T, if_integral<T> = 0>
MSL_INLINE T reverse_bits(T x) {
  make_unsigned_t<T> from = make_unsigned_t<T>(x), to = 0;
  for (int i = 0; i < bits_of<T>; i++, from >>= 1) to = to << 1 | (from & 1);
  return T(to);
}

template <class T, if_integral<T> = 0>
MSL_INLINE T rotate(T x, T count) {
  int left = int(count & T(bits_of<T> - 1)), right = (bits_of<T> - left) % bits_of<T>;
  return T(make_unsigned_t<T>(x) << left | make_unsigned_t<T>(x) >> right);
}

// The upper half of the product.
template <class T, if_integral<T> = 0>
MSL_INLINE T mulhi(T a, T b) {
  return T(__int128(a) * __int128(b) >> bits_of<T>);
}

template <class T, if_integral<T> = 0>
MSL_INLINE T absdiff(T a, T b) {
  return a < b ? T(b - a) : T(a - b);
}

// `count` bits from position `offset`; the result of a signed type keeps its sign.
template <class T, if_integral<T> = 0>
MSL_INLINE T extract_bits(T x, uint offset, uint count) {
  if (count == 0) return T(0);
  return T(T(make_unsigned_t<T>(x) << (bits_of<T> - offset - count)) >> (bits_of<T> - count));
}

}  // namespace metal
