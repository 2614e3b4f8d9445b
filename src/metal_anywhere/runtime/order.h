// In which order threadgroups, SIMD groups and lanes run. A permutation that is computed needs no table: a grid can have more
// threadgroups than memory has room for.
#pragma once
#include <stdint.h>

inline uint64_t next_random(uint64_t& state) {  // splitmix64
  uint64_t z = (state += 0x9E3779B97F4A7C15u);
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

enum OrderKind : int32_t { ASCENDING, DESCENDING, SHUFFLED };

// The numbers 0 to count - 1: order[i] is the one that comes in place i.
class Order {
 public:
  Order(int32_t kind, uint64_t count, uint64_t& random) : kind(kind), count(count) {
    while (bits < 64 && count - 1 >> bits) bits++;
    if (kind == SHUFFLED)
      for (uint64_t& key : keys) key = next_random(random);
  }

  uint64_t operator[](uint64_t place) const {
    if (kind == ASCENDING) return place;
    if (kind == DESCENDING) return count - 1 - place;
    do place = mix(place);
    while (place >= count);  // mix permutes the numbers below 2^bits: going on until one is below count permutes those
    return place;
  }

 private:
  uint64_t mix(uint64_t number) const {
    for (uint64_t key : keys) {  // each step can be undone
      number = (number ^ key >> 32) * (key | 1) & (bits < 64 ? (1ull << bits) - 1 : ~0ull);
      number ^= number >> (bits / 2 + 1);
    }
    return number;
  }

  int32_t kind;
  uint32_t bits = 0;
  uint64_t count, keys[4];
};
