// <metal_atomic>: atomic operations. The threads of a kernel run one at a time here, so plain reads and writes are atomic.
#pragma once
#include "msl_common.h"

namespace metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  static_assert(is_one_of<T, int, uint, ulong, float, bool>, "Metal has atomic int, uint, ulong, float and bool");
  T value;
};

// An argument that takes no part in finding T: atomic_fetch_add_explicit(counter_of_uint, 1, ...) adds a uint.
template <class T>
using argument = typename enable_if<true, T>::type;

template <class T>
MSL_UNCHECKED T atomic_load_explicit(const atomic<T>* object, memory_order) {
  msl::msl_atomic_access(object, sizeof(T), false);
  return object->value;
}

template <class T>
MSL_UNCHECKED void atomic_store_explicit(atomic<T>* object, argument<T> desired, memory_order) {
  msl::msl_atomic_access(object, sizeof(T), true);
  object->value = desired;
}

// Bits are compared, as the standard says: a NaN equals itself here.
template <class T>
MSL_UNCHECKED bool atomic_compare_exchange_weak_explicit(atomic<T>* object, T* expected, argument<T> desired, memory_order,
                                                         memory_order) {
  bool equal = __builtin_memcmp(&object->value, expected, sizeof(T)) == 0;
  msl::msl_atomic_access(object, sizeof(T), equal);
  if (equal)
    object->value = desired;
  else
    *expected = object->value;
  return equal;
}

// atomic_fetch_<name>_explicit returns the value before. floats are added only.
#define MSL_ATOMIC_FETCH(name, Requirement, expression)                                                  \
  template <class T, enable_if_t<Requirement, int> = 0>                                                  \
  MSL_UNCHECKED T atomic_fetch_##name##_explicit(atomic<T>* object, argument<T> operand, memory_order) { \
    msl::msl_atomic_access(object, sizeof(T), true);                                                     \
    T before = object->value;                                                                            \
    object->value = expression;                                                                          \
    return before;                                                                                       \
  }
MSL_ATOMIC_FETCH(add, is_arithmetic_v<T>, before + operand)
MSL_ATOMIC_FETCH(min, is_integral_v<T>, operand < before ? operand : before)
MSL_ATOMIC_FETCH(max, is_integral_v<T>, before < operand ? operand : before)
MSL_ATOMIC_FETCH(and, is_integral_v<T>, before & operand)
MSL_ATOMIC_FETCH(or, is_integral_v<T>, before | operand)
#undef MSL_ATOMIC_FETCH

}  // namespace metal

typedef metal::atomic<bool> atomic_bool;
typedef metal::atomic<int> atomic_int;
typedef metal::atomic<uint> atomic_uint;
typedef metal::atomic<float> atomic_float;
