// Atomic operations, on objects in device and in threadgroup memory and in no other.
#pragma once
#include "types.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  static_assert(is_one_of<T, int, uint, ulong, float, bool>, "Metal has atomic int, uint, ulong, float and bool");
  T value;
};

#define METAL_ATOMIC_FETCH(space, name) \
  template <class T>                    \
  T atomic_fetch_##name##_explicit(volatile space atomic<T>*, identity_t<T>, memory_order);
#define METAL_ATOMICS(space)                                                                                              \
  template <class T>                                                                                                      \
  T atomic_load_explicit(const volatile space atomic<T>*, memory_order);                                                  \
  template <class T>                                                                                                      \
  void atomic_store_explicit(volatile space atomic<T>*, identity_t<T>, memory_order);                                     \
  template <class T>                                                                                                      \
  T atomic_exchange_explicit(volatile space atomic<T>*, identity_t<T>, memory_order);                                     \
  template <class T>                                                                                                      \
  bool atomic_compare_exchange_weak_explicit(volatile space atomic<T>*, thread T*, identity_t<T>, memory_order,           \
                                             memory_order);                                                               \
  METAL_ATOMIC_FETCH(space, add)                                                                                          \
  METAL_ATOMIC_FETCH(space, sub)                                                                                          \
  METAL_ATOMIC_FETCH(space, min)                                                                                          \
  METAL_ATOMIC_FETCH(space, max)                                                                                          \
  METAL_ATOMIC_FETCH(space, and)                                                                                          \
  METAL_ATOMIC_FETCH(space, or)                                                                                           \
  METAL_ATOMIC_FETCH(space, xor)
METAL_ATOMICS(device)
METAL_ATOMICS(threadgroup)
#undef METAL_ATOMICS
#undef METAL_ATOMIC_FETCH

}  // namespace metal

typedef metal::atomic<bool> atomic_bool;
typedef metal::atomic<int> atomic_int;
typedef metal::atomic<uint> atomic_uint;
typedef metal::atomic<float> atomic_float;
