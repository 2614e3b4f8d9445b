// In place of MLX's file, which defines pointer_element once for each address space: a CPU has one.
#pragma once
#include <metal_stdlib>

namespace metal {

template <class T>
struct is_static : bool_constant<is_empty_v<remove_cv_t<T>>> {};

template <class T>
struct pointer_element {};
template <class T>
struct pointer_element<T*> {
  typedef remove_cv_t<T> type;
};
template <class T>
using pointer_element_t = typename pointer_element<remove_cv_t<T>>::type;

}  // namespace metal
