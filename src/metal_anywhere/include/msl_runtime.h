// What the headers of the CPU runner ask of its runtime (runtime.cpp). No standard header but <stdint.h> and <stddef.h>: words
// such as `thread` and `device` are macros in a kernel's source.
#pragma once
#include <stddef.h>
#include <stdint.h>

// The compilers fill in this structure for __builtin_source_location(); its names are theirs.
namespace std {
struct source_location {
  struct __impl {
    const char* _M_file_name;
    const char* _M_function_name;
    unsigned _M_line, _M_column;
  };
};
}  // namespace std

namespace msl {

// Where in the kernel's source a call stands. As a default argument, MSL_SITE gives a function the place of its caller.
typedef const std::source_location::__impl* Site;
#define MSL_SITE ::msl::Site site_ = (::msl::Site)__builtin_source_location()

constexpr int SIMD_WIDTH = 32;

// What a lane brings to a SIMD-group operation, and what it takes away.
struct Slot {
  alignas(16) unsigned char bytes[128];
};

// Computes a SIMD-group operation: `lanes` are the group's 32 slots, bit i of `active` says that lane i takes part.
typedef void (*Resolver)(Slot* lanes, uint32_t active);

extern "C" {
Slot* msl_slot();  // of the thread that runs
uint32_t msl_lane();
// Returns when the lanes of the SIMD group that take part are here, and `resolve` has computed what they take away.
void msl_exchange(Resolver resolve, Site site);
// Returns when all threads of the threadgroup are here. Only if it is for threadgroup memory does it order accesses to that.
void msl_barrier(bool for_threadgroup_memory, Site site);
// A thread meets the declaration of a threadgroup variable. `granule`: bytes of a number in it. See msl_threadgroup.h.
void msl_threadgroup_variable(const char* name, void* address, size_t size, size_t granule, Site site);
void msl_unfilled_matrix(const char* name, Site site);  // stops the launch
void msl_atomic_access(const void* address, size_t size, bool writes);  // atomics are exempt from the search for data races
}

}  // namespace msl
