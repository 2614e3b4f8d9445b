// <metal_compute>: barriers.
#pragma once
#include "msl_lanes.h"

namespace metal {

enum class mem_flags { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4, mem_threadgroup_imageblock = 8 };
constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(int(a) | int(b)); }

MSL_INLINE void threadgroup_barrier(mem_flags flags, MSL_SITE) {
  msl::msl_barrier(int(flags) & int(mem_flags::mem_threadgroup), site_);
}
MSL_INLINE void simdgroup_barrier(mem_flags, MSL_SITE) {
  msl::msl_exchange([](msl::Slot*, uint32_t) {}, site_);
}

}  // namespace metal
