// How the lanes of a SIMD group exchange values. Each lane puts its value into its slot and waits. When the lanes that take
// part are there, a resolver turns the values in the slots into results; then each lane takes its own.
#pragma once
#include "msl_common.h"

namespace msl {

using metal::vec;

template <class T>
MSL_INLINE T get(const Slot& slot) {
  T value;
  __builtin_memcpy((void*)&value, slot.bytes, sizeof(T));
  return value;
}

template <class T>
MSL_INLINE void put(Slot& slot, const T& value) {
  __builtin_memcpy(slot.bytes, (const void*)&value, sizeof(T));
}

template <class T>
MSL_UNCHECKED T exchange(T value, Resolver resolve, Site site) {
  static_assert(sizeof(T) <= sizeof(Slot), "too large a type for a SIMD-group function");
  Slot* slot = msl_slot();
  put(*slot, value);
  msl_exchange(resolve, site);
  return get<T>(*slot);
}

MSL_INLINE bool takes_part(uint32_t active, int lane) { return active >> lane & 1; }

// Bit i of the result: lane i of the WIDTH that work together (32 for simd_ functions, 4 for quad_ functions) votes yes.
template <int WIDTH>
MSL_UNCHECKED void vote(Slot* lanes, uint32_t active) {
  uint64_t votes = 0;
  for (int lane = 0; lane < SIMD_WIDTH; lane++)
    if (takes_part(active, lane) && get<uint64_t>(lanes[lane])) votes |= 1ull << lane;
  for (int lane = 0; lane < SIMD_WIDTH; lane++)
    if (takes_part(active, lane)) put<uint64_t>(lanes[lane], votes >> (lane / WIDTH * WIDTH) & ((1ull << WIDTH) - 1));
}

template <class T, int WIDTH>
MSL_UNCHECKED void take_first(Slot* lanes, uint32_t active) {
  for (int begin = 0; begin < SIMD_WIDTH; begin += WIDTH) {
    const Slot* first = nullptr;
    for (int lane = begin; lane < begin + WIDTH; lane++) {
      if (!takes_part(active, lane)) continue;
      if (first == nullptr) first = &lanes[lane];
      put(lanes[lane], get<T>(*first));
    }
  }
}

// A lane wants the value of lane `source`. (What a resolver calls must be MSL_INLINE, or it would be checked: copies too.)
template <class T>
struct Request {
  T value;
  int source;
};

// Metal leaves the value of a lane that is not there undefined. All bits 1 make a NaN or a -1, which tests notice.
template <class T>
MSL_UNCHECKED void answer(Slot* lanes, uint32_t active) {
  T values[SIMD_WIDTH];
  __builtin_memset((void*)values, 0xff, sizeof values);
  for (int lane = 0; lane < SIMD_WIDTH; lane++)
    if (takes_part(active, lane)) values[lane] = get<Request<T>>(lanes[lane]).value;
  T undefined;
  __builtin_memset((void*)&undefined, 0xff, sizeof undefined);
  for (int lane = 0; lane < SIMD_WIDTH; lane++) {
    if (!takes_part(active, lane)) continue;
    int source = get<Request<T>>(lanes[lane]).source;
    put(lanes[lane], source >= 0 && source < SIMD_WIDTH ? values[source] : undefined);
  }
}

template <class T>
MSL_UNCHECKED T shuffle(T value, int source, Site site) {
  Slot* slot = msl_slot();
  put(*slot, Request<T>{value, source});
  msl_exchange(&answer<T>, site);
  return get<T>(*slot);
}

// shuffle_and_fill: from lane `source` of the data, or where that lies outside of the lanes that work together, of the filling.
template <class T>
struct Filled {
  unsigned char data[sizeof(T)], filling[sizeof(T)];
};

template <class T>
MSL_INLINE T shuffle_and_fill(T data, T filling, int distance, int width, Site site) {
  int lane = msl_lane(), begin = lane / width * width, source = lane - begin + distance;
  int wrapped = (source % width + width) % width;
  Filled<T> both;
  __builtin_memcpy(both.data, (const void*)&data, sizeof(T));
  __builtin_memcpy(both.filling, (const void*)&filling, sizeof(T));
  both = shuffle(both, begin + wrapped, site);
  __builtin_memcpy((void*)&data, source == wrapped ? both.data : both.filling, sizeof(T));
  return data;
}

// shuffle_up and _down: where the lane lies outside, the value stays.
template <class T>
MSL_INLINE T shuffle_by(T value, int distance, int width, Site site) {
  int lane = msl_lane(), source = lane + distance;
  bool inside = source >= 0 && source / width == lane / width;
  return shuffle(value, inside ? source : lane, site);
}

template <class T>
MSL_INLINE T rotate_by(T value, int distance, int width, Site site) {
  int lane = msl_lane(), begin = lane / width * width;
  return shuffle(value, begin + ((lane - begin + distance) % width + width) % width, site);
}

}  // namespace msl
