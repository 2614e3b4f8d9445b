// <metal_quadgroup>: the functions of msl_simd.h for each four lanes of a SIMD group.
#pragma once
#include "msl_reduce.h"

namespace metal {

template <class T>
MSL_INLINE T quad_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Sum, 4>, site_);
}

template <class T>
MSL_INLINE T quad_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Product, 4>, site_);
}

template <class T>
MSL_INLINE T quad_min(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Min, 4>, site_);
}

template <class T>
MSL_INLINE T quad_max(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Max, 4>, site_);
}

template <class T>
MSL_INLINE T quad_and(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::And, 4>, site_);
}

template <class T>
MSL_INLINE T quad_or(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Or, 4>, site_);
}

template <class T>
MSL_INLINE T quad_xor(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Xor, 4>, site_);
}

// Over the lanes up to this one: inclusive with it, exclusive without it.
template <class T>
MSL_INLINE T quad_prefix_inclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, true, 4>, site_);
}

template <class T>
MSL_INLINE T quad_prefix_exclusive_sum(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, false, 4>, site_);
}

template <class T>
MSL_INLINE T quad_prefix_inclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, true, 4>, site_);
}

template <class T>
MSL_INLINE T quad_prefix_exclusive_product(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, false, 4>, site_);
}

// The value of another lane. Undefined (here: all bits 1) where that lane does not take part.
template <class T>
MSL_INLINE T quad_shuffle(T value, ushort lane, MSL_SITE) {
  return msl::shuffle(value, lane < 4 ? int(msl::msl_lane() / 4 * 4 + lane) : -1, site_);
}

template <class T>
MSL_INLINE T quad_broadcast(T value, ushort lane, MSL_SITE) {
  return msl::shuffle(value, lane < 4 ? int(msl::msl_lane() / 4 * 4 + lane) : -1, site_);
}

template <class T>
MSL_INLINE T quad_shuffle_xor(T value, ushort mask, MSL_SITE) {
  return msl::shuffle(value, mask < 4 ? int(msl::msl_lane() ^ mask) : -1, site_);
}

// From `delta` lanes below (up) or above (down); where there is no such lane, the value stays.
template <class T>
MSL_INLINE T quad_shuffle_up(T value, ushort delta, MSL_SITE) {
  return msl::shuffle_by(value, -delta, 4, site_);
}

template <class T>
MSL_INLINE T quad_shuffle_down(T value, ushort delta, MSL_SITE) {
  return msl::shuffle_by(value, delta, 4, site_);
}

template <class T>
MSL_INLINE T quad_shuffle_rotate_up(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, -delta, 4, site_);
}

template <class T>
MSL_INLINE T quad_shuffle_rotate_down(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, delta, 4, site_);
}

// The same, and where there is no such lane the value comes from the other end of `filling`. `width` lanes work together.
template <class T>
MSL_INLINE T quad_shuffle_and_fill_up(T value, T filling, ushort delta, ushort width = 4, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, -delta, width, site_);
}

template <class T>
MSL_INLINE T quad_shuffle_and_fill_down(T value, T filling, ushort delta, ushort width = 4, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, delta, width, site_);
}

template <class T>
MSL_INLINE T quad_broadcast_first(T value, MSL_SITE) {
  return msl::exchange(value, &msl::take_first<T, 4>, site_);
}

// A bit for each lane.
struct quad_vote {
  typedef uint vote_t;
  vote_t bits;

  explicit operator vote_t() const { return bits; }
  bool all() const { return bits == 0xf; }
  bool any() const { return bits != 0; }
};

MSL_INLINE quad_vote quad_ballot(bool vote, MSL_SITE) {
  return {quad_vote::vote_t(msl::exchange(uint64_t(vote), &msl::vote<4>, site_))};
}

MSL_INLINE quad_vote quad_active_threads_mask(MSL_SITE) { return quad_ballot(true, site_); }

// Of the lanes that take part: do all, does any?
MSL_INLINE bool quad_all(bool vote, MSL_SITE) { return quad_and(int(vote), site_); }
MSL_INLINE bool quad_any(bool vote, MSL_SITE) { return quad_or(int(vote), site_); }

// Is this the lowest lane that takes part?
MSL_INLINE bool quad_is_first(MSL_SITE) {
  return quad_broadcast_first(msl::msl_lane(), site_) == msl::msl_lane();
}

}  // namespace metal
