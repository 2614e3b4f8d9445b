// Operators on vectors, component by component. One operand may be a scalar: it is converted to the vector's element type.
#pragma once
#include "msl_vector.h"

namespace metal {

#define MSL_VECTOR_OPERATOR(op)                                                      \
  template <class A, class B, class V = common_vector_t<A, B>>                       \
  MSL_INLINE V operator op(A a, B b) {                                               \
    V left(a), right(b);                                                             \
    for (int i = 0; i < components_of<V>::count; i++) left[i] = left[i] op right[i]; \
    return left;                                                                     \
  }                                                                                  \
  template <class A, class B, class V = common_vector_t<A, B>>                       \
  MSL_INLINE A& operator op##=(A& a, B b) {                                          \
    return a = a op b;                                                               \
  }
MSL_VECTOR_OPERATOR(+)
MSL_VECTOR_OPERATOR(-)
MSL_VECTOR_OPERATOR(*)
MSL_VECTOR_OPERATOR(/)
MSL_VECTOR_OPERATOR(%)
MSL_VECTOR_OPERATOR(&)
MSL_VECTOR_OPERATOR(|)
MSL_VECTOR_OPERATOR(^)
MSL_VECTOR_OPERATOR(<<)
MSL_VECTOR_OPERATOR(>>)
#undef MSL_VECTOR_OPERATOR

#define MSL_VECTOR_COMPARISON(op)                                                      \
  template <class A, class B, class V = common_vector_t<A, B>>                         \
  MSL_INLINE common_booleans_t<A, B> operator op(A a, B b) {                           \
    V left(a), right(b);                                                               \
    common_booleans_t<A, B> result;                                                    \
    for (int i = 0; i < components_of<V>::count; i++) result[i] = left[i] op right[i]; \
    return result;                                                                     \
  }
MSL_VECTOR_COMPARISON(==)
MSL_VECTOR_COMPARISON(!=)
MSL_VECTOR_COMPARISON(<)
MSL_VECTOR_COMPARISON(>)
MSL_VECTOR_COMPARISON(<=)
MSL_VECTOR_COMPARISON(>=)
MSL_VECTOR_COMPARISON(&&)
MSL_VECTOR_COMPARISON(||)
#undef MSL_VECTOR_COMPARISON

#define MSL_VECTOR_UNARY_OPERATOR(op)                                           \
  template <class A, class V = vector_t<A>>                                     \
  MSL_INLINE V operator op(A a) {                                               \
    V result(a);                                                                \
    for (int i = 0; i < components_of<V>::count; i++) result[i] = op result[i]; \
    return result;                                                              \
  }
MSL_VECTOR_UNARY_OPERATOR(-)
MSL_VECTOR_UNARY_OPERATOR(~)
MSL_VECTOR_UNARY_OPERATOR(!)
#undef MSL_VECTOR_UNARY_OPERATOR

template <int N>
MSL_INLINE bool all(vec<bool, N> v) {
  bool result = true;
  for (int i = 0; i < N; i++) result &= v[i];
  return result;
}

template <int N>
MSL_INLINE bool any(vec<bool, N> v) {
  bool result = false;
  for (int i = 0; i < N; i++) result |= v[i];
  return result;
}

}  // namespace metal
