// <metal_simdgroup>: functions of the 32 lanes of a SIMD group, for scalars and vectors. Those lanes take part that reach the same
// call together.
#pragma once
#include "msl_reduce.h"

namespace metal {

template <class T>
MSL_INLINE T simd_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Sum>, site_);
}
template <class T>
MSL_INLINE T simd_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Product>, site_);
}
template <class T>
MSL_INLINE T simd_min(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Min>, site_);
}
template <class T>
MSL_INLINE T simd_max(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Max>, site_);
}

// The same of each four lanes.
template <class T>
MSL_INLINE T quad_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Sum, 4>, site_);
}

// Do all lanes say yes, does any?
MSL_INLINE bool simd_all(bool vote, MSL_SITE) { return msl::exchange(int(vote), &msl::reduce<int, msl::Min>, site_); }
MSL_INLINE bool simd_any(bool vote, MSL_SITE) { return msl::exchange(int(vote), &msl::reduce<int, msl::Max>, site_); }

// Over the lanes up to this one: inclusive with it, exclusive without it.
template <class T>
MSL_INLINE T simd_prefix_inclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, true>, site_);
}
template <class T>
MSL_INLINE T simd_prefix_exclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, false>, site_);
}
template <class T>
MSL_INLINE T simd_prefix_inclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, true>, site_);
}
template <class T>
MSL_INLINE T simd_prefix_exclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, false>, site_);
}

// The value of another lane. Undefined (here: all bits 1) where that lane does not take part.
template <class T>
MSL_INLINE T simd_shuffle(T value, ushort lane, MSL_SITE) {
  return msl::shuffle(value, lane, site_);
}
template <class T>
MSL_INLINE T simd_broadcast(T value, ushort lane, MSL_SITE) {
  return msl::shuffle(value, lane, site_);
}
template <class T>
MSL_INLINE T simd_shuffle_xor(T value, ushort mask, MSL_SITE) {
  return msl::shuffle(value, msl::msl_lane() ^ mask, site_);
}

// From `delta` lanes below (up) or above (down); where there is no such lane, the value stays.
template <class T>
MSL_INLINE T simd_shuffle_up(T value, ushort delta, MSL_SITE) {
  int lane = msl::msl_lane();
  return msl::shuffle(value, lane < delta ? lane : lane - delta, site_);
}
template <class T>
MSL_INLINE T simd_shuffle_down(T value, ushort delta, MSL_SITE) {
  int lane = msl::msl_lane();
  return msl::shuffle(value, lane + delta < msl::SIMD_WIDTH ? lane + delta : lane, site_);
}

// As simd_shuffle_up, and where there is no such lane the value comes from the upper end of `filling`.
template <class T>
MSL_INLINE T simd_shuffle_and_fill_up(T data, T filling, ushort delta, MSL_SITE) {
  int source = int(msl::msl_lane()) - delta;
  msl::Both<T> both;
  __builtin_memcpy(both.data, (const void*)&data, sizeof(T));
  __builtin_memcpy(both.filling, (const void*)&filling, sizeof(T));
  both = msl::shuffle(both, source < 0 ? source + msl::SIMD_WIDTH : source, site_);
  __builtin_memcpy((void*)&data, source < 0 ? both.filling : both.data, sizeof(T));
  return data;
}

}  // namespace metal
