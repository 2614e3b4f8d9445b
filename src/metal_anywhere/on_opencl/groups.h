// Barriers, and what the lanes of a SIMD group or of a quad-group tell each other: values again.
#pragma once
#include "types.h"

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }
void threadgroup_barrier(mem_flags);
void simdgroup_barrier(mem_flags);

#define METAL_OF_ONE(name) \
  template <class T>       \
  T simd_##name(T);        \
  template <class T>       \
  T quad_##name(T);
METAL_OF_ONE(sum)
METAL_OF_ONE(product)
METAL_OF_ONE(min)
METAL_OF_ONE(max)
METAL_OF_ONE(and)
METAL_OF_ONE(or)
METAL_OF_ONE(xor)
METAL_OF_ONE(prefix_inclusive_sum)
METAL_OF_ONE(prefix_exclusive_sum)
METAL_OF_ONE(prefix_inclusive_product)
METAL_OF_ONE(prefix_exclusive_product)
METAL_OF_ONE(broadcast_first)
#undef METAL_OF_ONE

#define METAL_OF_A_LANE(name) \
  template <class T>          \
  T simd_##name(T, ushort);   \
  template <class T>          \
  T quad_##name(T, ushort);
METAL_OF_A_LANE(shuffle)
METAL_OF_A_LANE(broadcast)
METAL_OF_A_LANE(shuffle_xor)
METAL_OF_A_LANE(shuffle_up)
METAL_OF_A_LANE(shuffle_down)
METAL_OF_A_LANE(shuffle_rotate_up)
METAL_OF_A_LANE(shuffle_rotate_down)
#undef METAL_OF_A_LANE

#define METAL_VOTES(group, votes)                                               \
  template <class T>                                                            \
  T group##_shuffle_and_fill_up(T, identity_t<T>, ushort, ushort = 4);          \
  template <class T>                                                            \
  T group##_shuffle_and_fill_down(T, identity_t<T>, ushort, ushort = 4);        \
  struct group##_vote {                                                         \
    typedef votes vote_t;                                                       \
    explicit constexpr group##_vote(vote_t = 0) {}                              \
    explicit operator vote_t() const;                                           \
    bool all() const;                                                           \
    bool any() const;                                                           \
  };                                                                            \
  group##_vote group##_ballot(bool);                                            \
  group##_vote group##_active_threads_mask();                                   \
  bool group##_all(bool);                                                       \
  bool group##_any(bool);                                                       \
  bool group##_is_first();
METAL_VOTES(simd, ulong)
METAL_VOTES(quad, uint)
#undef METAL_VOTES

}  // namespace metal
