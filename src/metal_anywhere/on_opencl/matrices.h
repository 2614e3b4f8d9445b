// <metal_simdgroup_matrix>: matrices are loaded from device, threadgroup and constant memory, and stored to the first two.
#pragma once
#include "types.h"

namespace metal {

template <class T, int COLUMNS, int ROWS = COLUMNS>
struct simdgroup_matrix {
  static_assert(COLUMNS == 8 && ROWS == 8, "a simdgroup_matrix is 8 x 8");
  typedef vec<T, 2> storage_type;
  simdgroup_matrix() = default;
  explicit simdgroup_matrix(T) {}
  thread storage_type& thread_elements() thread;
  const thread storage_type& thread_elements() const thread;

 private:
  storage_type elements;
};

typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int COLUMNS, int ROWS = COLUMNS>
simdgroup_matrix<T, COLUMNS, ROWS> make_filled_simdgroup_matrix(T);
template <class T, int COLUMNS, int ROWS = COLUMNS>
simdgroup_matrix<T, COLUMNS, ROWS> make_diagonal_simdgroup_matrix(T);

#define METAL_LOAD(space)                                                                                                 \
  template <class T>                                                                                                      \
  void simdgroup_load(thread simdgroup_matrix<T, 8, 8>&, const space T*, ulong = 8, ulong2 = 0, bool = false);
#define METAL_STORE(space)                                                                                                \
  template <class T>                                                                                                      \
  void simdgroup_store(simdgroup_matrix<T, 8, 8>, space T*, ulong = 8, ulong2 = 0, bool = false);
METAL_LOAD(device)
METAL_LOAD(threadgroup)
METAL_LOAD(constant)
METAL_STORE(device)
METAL_STORE(threadgroup)
#undef METAL_LOAD
#undef METAL_STORE

template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(thread simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>, simdgroup_matrix<B, 8, 8>,
                                   simdgroup_matrix<C, 8, 8>);
template <class D, class A, class B>
void simdgroup_multiply(thread simdgroup_matrix<D, 8, 8>&, simdgroup_matrix<A, 8, 8>, simdgroup_matrix<B, 8, 8>);

}  // namespace metal
