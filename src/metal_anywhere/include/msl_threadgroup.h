// Threadgroup variables. The rewriter turns `threadgroup float x[32];` into `static float x[32]; msl::declare("x", x);`: one
// object for all threads, which is what it should be, since one threadgroup runs at a time.
#pragma once
#include <type_traits>

#include "msl_runtime.h"

namespace metal {
template <class T, int N>
struct vec;
}

namespace msl {

// Two threads may write two neighbouring numbers, but not the same one: the size of a number, in bytes.
template <class T>
struct Scalar {
  static constexpr size_t size = std::is_class_v<T> ? 1 : sizeof(T);
};
template <class T, int N>
struct Scalar<metal::vec<T, N>> : Scalar<T> {};

template <class V>
inline void declare(const char* name, V& variable, MSL_SITE) {
  msl_threadgroup_variable(name, (void*)&variable, sizeof variable, Scalar<std::remove_all_extents_t<V>>::size, site_);
}

}  // namespace msl
