// <metal_simdgroup>: functions of the 32 lanes of a SIMD group, for scalars and vectors. Those lanes take part that reach the
// same call together.
#pragma once
#include "msl_reduce.h"

namespace metal {

template <class T>
MSL_INLINE T simd_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Sum, 32>, site_);
}

template <class T>
MSL_INLINE T simd_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Product, 32>, site_);
}

template <class T>
MSL_INLINE T simd_min(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Min, 32>, site_);
}

template <class T>
MSL_INLINE T simd_max(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Max, 32>, site_);
}

template <class T>
MSL_INLINE T simd_and(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::And, 32>, site_);
}

template <class T>
MSL_INLINE T simd_or(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Or, 32>, site_);
}

template <class T>
MSL_INLINE T simd_xor(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Xor, 32>, site_);
}

// Over the lanes up to this one: inclusive with it, exclusive without it.
template <class T>
MSL_INLINE T simd_prefix_inclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, true, 32>, site_);
}

template <class T>
MSL_INLINE T simd_prefix_exclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, false, 32>, site_);
}

template <class T>
MSL_INLINE T simd_prefix_inclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, true, 32>, site_);
}

template <class T>
MSL_INLINE T simd_prefix_exclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, false, 32>, site_);
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
  return msl::shuffle_by(value, -delta, 32, site_);
}

template <class T>
MSL_INLINE T simd_shuffle_down(T value, ushort delta, MSL_SITE) {
  return msl::shuffle_by(value, delta, 32, site_);
}

template <class T>
MSL_INLINE T simd_shuffle_rotate_up(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, -delta, 32, site_);
}

template <class T>
MSL_INLINE T simd_shuffle_rotate_down(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, delta, 32, site_);
}

// The same, and where there is no such lane the value comes from the other end of `filling`. `width` lanes work together.
template <class T>
MSL_INLINE T simd_shuffle_and_fill_up(T value, T filling, ushort delta, ushort width = 32, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, -delta, width, site_);
}

template <class T>
MSL_INLINE T simd_shuffle_and_fill_down(T value, T filling, ushort delta, ushort width = 32, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, delta, width, site_);
}

template <class T>
MSL_INLINE T simd_broadcast_first(T value, MSL_SITE) {
  return msl::exchange(value, &msl::take_first<T, 32>, site_);
}

// A bit for each lane.
struct simd_vote {
  typedef uint64_t vote_t;
  vote_t bits;

  explicit operator vote_t() const { return bits; }
  bool all() const { return bits == 0xffffffff; }
  bool any() const { return bits != 0; }
};

MSL_INLINE simd_vote simd_ballot(bool vote, MSL_SITE) {
  return {simd_vote::vote_t(msl::exchange(uint64_t(vote), &msl::vote<32>, site_))};
}

MSL_INLINE simd_vote simd_active_threads_mask(MSL_SITE) { return simd_ballot(true, site_); }

// Of the lanes that take part: do all, does any?
MSL_INLINE bool simd_all(bool vote, MSL_SITE) { return simd_and(int(vote), site_); }
MSL_INLINE bool simd_any(bool vote, MSL_SITE) { return simd_or(int(vote), site_); }

// Is this the lowest lane that takes part?
MSL_INLINE bool simd_is_first(MSL_SITE) {
  return simd_broadcast_first(msl::msl_lane(), site_) == msl::msl_lane();
}

}  // namespace metal
