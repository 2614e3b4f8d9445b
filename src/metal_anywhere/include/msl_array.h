// <metal_array>: array<T, N>, an array that can be copied and returned.
#pragma once
#include "msl_types.h"

namespace metal {

template <class T, size_t N>
struct array {
  T elements[N];

  constexpr T& operator[](size_t i) { return elements[i]; }
  constexpr const T& operator[](size_t i) const { return elements[i]; }
  static constexpr size_t size() { return N; }
};

}  // namespace metal
