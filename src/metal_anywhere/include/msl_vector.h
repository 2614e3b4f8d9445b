// Vectors of two to four components, and their operators, which work component by component.
#pragma once
#include "msl_swizzle.h"

namespace metal {

// How many components a value brings to a vector's constructor, and of what type: a scalar brings one.
template <class A>
struct components_of {
  static constexpr int count = 1;
  static constexpr bool is_vector = false;
};
template <class T, int N>
struct components_of<vec<T, N>> {
  static constexpr int count = N;
  static constexpr bool is_vector = true;
};
template <class T, int N, int... I>
struct components_of<swizzle<T, N, I...>> : components_of<vec<T, sizeof...(I)>> {};

template <class T, int N>
struct vec : vec_components<T, N> {
  using vec_components<T, N>::whole;
  using vec_components<T, N>::components;

  vec() = default;
  MSL_INLINE vec(const vec& other) { whole.copy(other.whole); }
  MSL_INLINE vec& operator=(const vec& other) {
    whole.copy(other.whole);
    return *this;
  }

  // float4(1.0f): the scalar in every component.
  template <class S, enable_if_t<is_arithmetic_v<S>, int> = 0>
  MSL_INLINE vec(S scalar) {
    for (int i = 0; i < N; i++) components[i] = T(scalar);
  }
  // float4(h) of a half4 h: component by component, only when asked.
  template <class U>
  MSL_INLINE explicit vec(vec<U, N> other) {
    for (int i = 0; i < N; i++) components[i] = T(other[i]);
  }
  template <class U, int M, int... I, enable_if_t<sizeof...(I) == N, int> = 0>
  MSL_INLINE explicit vec(swizzle<U, M, I...> other) {
    int next = 0;
    ((components[next++] = T(other.components[I])), ...);
  }
  // float4(x, y, z, w), float4(v.xy, z, w): scalars and vectors with N components in all.
  template <class... Parts, enable_if_t<(sizeof...(Parts) > 1) && (0 + ... + components_of<Parts>::count) == N, int> = 0>
  MSL_INLINE vec(Parts... parts) {
    int next = 0;
    (append(next, parts), ...);
  }

  MSL_INLINE T& operator[](int i) { return components[i]; }
  MSL_INLINE const T& operator[](int i) const { return components[i]; }

 private:
  template <class A>
  MSL_INLINE void append(int& next, const A& part) {
    if constexpr (components_of<A>::is_vector)
      for (int i = 0; i < components_of<A>::count; i++) components[next++] = T(part[i]);
    else
      components[next++] = T(part);
  }
};

// The vector type of v (V itself, or that of a swizzle); of two operands, where one may be a scalar. There is none for two
// scalars, nor for two different vectors: then the operators and functions that use it are not considered.
template <class A>
struct vector_type {};
template <class T, int N>
struct vector_type<vec<T, N>> {
  typedef vec<T, N> type;
  typedef vec<bool, N> booleans;
};
template <class T, int N, int... I>
struct vector_type<swizzle<T, N, I...>> : vector_type<vec<T, sizeof...(I)>> {};

template <class A, class B, bool = components_of<A>::is_vector, bool = components_of<B>::is_vector>
struct common_vector_type {};
template <class A, class B>
struct common_vector_type<A, B, true, false> : vector_type<A> {};
template <class A, class B>
struct common_vector_type<A, B, false, true> : vector_type<B> {};
template <class A, class B>
struct common_vector_type<A, B, true, true>
    : conditional_t<is_same_v<typename vector_type<A>::type, typename vector_type<B>::type>, vector_type<A>, false_type> {};

template <class A>
using vector_t = typename vector_type<A>::type;
template <class A, class B>
using common_vector_t = typename common_vector_type<A, B>::type;
template <class A, class B>
using common_booleans_t = typename common_vector_type<A, B>::booleans;

}  // namespace metal

#define MSL_VECTOR_NAMES(T)      \
  typedef metal::vec<T, 2> T##2; \
  typedef metal::vec<T, 3> T##3; \
  typedef metal::vec<T, 4> T##4;
MSL_VECTOR_NAMES(bool)
MSL_VECTOR_NAMES(char)
MSL_VECTOR_NAMES(uchar)
MSL_VECTOR_NAMES(short)
MSL_VECTOR_NAMES(ushort)
MSL_VECTOR_NAMES(int)
MSL_VECTOR_NAMES(uint)
MSL_VECTOR_NAMES(long)
MSL_VECTOR_NAMES(ulong)
MSL_VECTOR_NAMES(half)
MSL_VECTOR_NAMES(bfloat)
MSL_VECTOR_NAMES(float)
#undef MSL_VECTOR_NAMES
