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

// Two values that travel together: as bytes, since copies of vectors would be checked.
template <class T>
struct Both {
  unsigned char data[sizeof(T)], filling[sizeof(T)];
};

}  // namespace msl
