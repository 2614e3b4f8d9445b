// <metal_geometric>: vectors as arrows.
#pragma once
#include "msl_common.h"

namespace metal {

template <class A, class B, class V = common_vector_t<A, B>>
MSL_INLINE auto dot(A a, B b) {
  V product = V(a) * V(b);
  auto sum = product[0];
  for (int i = 1; i < components_of<V>::count; i++) sum += product[i];
  return sum;
}

template <class A, class V = vector_t<A>>
MSL_INLINE auto length_squared(A a) {
  return dot(a, a);
}

template <class A, class V = vector_t<A>>
MSL_INLINE auto length(A a) {
  return sqrt(dot(a, a));
}

template <class A, class B, class V = common_vector_t<A, B>>
MSL_INLINE auto distance(A a, B b) {
  return length(V(a) - V(b));
}

template <class A, class V = vector_t<A>>
MSL_INLINE V normalize(A a) {
  return a * rsqrt(dot(a, a));
}

template <class T>
MSL_INLINE vec<T, 3> cross(vec<T, 3> a, vec<T, 3> b) {
  return vec<T, 3>(a.y * b.z - a.z * b.y, a.z * b.x - a.x * b.z, a.x * b.y - a.y * b.x);
}

}  // namespace metal
