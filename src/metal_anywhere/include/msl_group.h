// The functions of MSL_WIDTH lanes that work together, for scalars and vectors, under the names MSL_GROUP(...). MSL_VOTES has a
// bit for each lane. msl_simd.h includes this once for each kind of group.
#include "msl_reduce.h"

namespace metal {

template <class T>
MSL_INLINE T MSL_GROUP(sum)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Sum, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(product)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Product, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(min)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Min, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(max)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Max, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(and)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::And, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(or)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Or, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(xor)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::reduce<T, msl::Xor, MSL_WIDTH>, site_);
}

// Over the lanes up to this one: inclusive with it, exclusive without it.
template <class T>
MSL_INLINE T MSL_GROUP(prefix_inclusive_sum)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, true, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(prefix_exclusive_sum)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Sum, 0, false, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(prefix_inclusive_product)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, true, MSL_WIDTH>, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(prefix_exclusive_product)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::scan<T, msl::Product, 1, false, MSL_WIDTH>, site_);
}

// The value of another lane. Undefined (here: all bits 1) where that lane does not take part.
template <class T>
MSL_INLINE T MSL_GROUP(shuffle)(T value, ushort lane, MSL_SITE) {
  return msl::shuffle(value, lane < MSL_WIDTH ? int(msl::msl_lane() / MSL_WIDTH * MSL_WIDTH + lane) : -1, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(broadcast)(T value, ushort lane, MSL_SITE) {
  return MSL_GROUP(shuffle)(value, lane, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(shuffle_xor)(T value, ushort mask, MSL_SITE) {
  return msl::shuffle(value, mask < MSL_WIDTH ? int(msl::msl_lane() ^ mask) : -1, site_);
}

// From `delta` lanes below (up) or above (down); where there is no such lane, the value stays.
template <class T>
MSL_INLINE T MSL_GROUP(shuffle_up)(T value, ushort delta, MSL_SITE) {
  return msl::shuffle_by(value, -delta, MSL_WIDTH, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(shuffle_down)(T value, ushort delta, MSL_SITE) {
  return msl::shuffle_by(value, delta, MSL_WIDTH, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(shuffle_rotate_up)(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, -delta, MSL_WIDTH, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(shuffle_rotate_down)(T value, ushort delta, MSL_SITE) {
  return msl::rotate_by(value, delta, MSL_WIDTH, site_);
}

// The same, and where there is no such lane the value comes from the other end of `filling`. `width` lanes work together.
template <class T>
MSL_INLINE T MSL_GROUP(shuffle_and_fill_up)(T value, T filling, ushort delta, ushort width = MSL_WIDTH, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, -delta, width, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(shuffle_and_fill_down)(T value, T filling, ushort delta, ushort width = MSL_WIDTH, MSL_SITE) {
  return msl::shuffle_and_fill(value, filling, delta, width, site_);
}

template <class T>
MSL_INLINE T MSL_GROUP(broadcast_first)(T value, MSL_SITE) {
  return msl::exchange(value, &msl::take_first<T, MSL_WIDTH>, site_);
}

// A bit for each lane.
struct MSL_GROUP(vote) {
  typedef MSL_VOTES vote_t;
  vote_t bits;

  explicit operator vote_t() const { return bits; }
  bool all() const { return bits == (1ull << MSL_WIDTH) - 1; }
  bool any() const { return bits != 0; }
};

MSL_INLINE MSL_GROUP(vote) MSL_GROUP(ballot)(bool vote, MSL_SITE) {
  return {MSL_GROUP(vote)::vote_t(msl::exchange(uint64_t(vote), &msl::vote<MSL_WIDTH>, site_))};
}

MSL_INLINE MSL_GROUP(vote) MSL_GROUP(active_threads_mask)(MSL_SITE) { return MSL_GROUP(ballot)(true, site_); }

// Of the lanes that take part: do all, does any?
MSL_INLINE bool MSL_GROUP(all)(bool vote, MSL_SITE) { return MSL_GROUP(and)(int(vote), site_); }
MSL_INLINE bool MSL_GROUP(any)(bool vote, MSL_SITE) { return MSL_GROUP(or)(int(vote), site_); }

// Is this the lowest lane that takes part?
MSL_INLINE bool MSL_GROUP(is_first)(MSL_SITE) {
  return MSL_GROUP(broadcast_first)(msl::msl_lane(), site_) == msl::msl_lane();
}

}  // namespace metal
