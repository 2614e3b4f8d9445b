// A Metal thread as a fiber, and the way out of it when it does something wrong.
#pragma once
#include <dlfcn.h>

#include "../include/msl_entry.h"
#include "../include/msl_runtime.h"
#include "fiber.h"
#include "launch.h"

enum class State : uint8_t { READY, AT_SIMD_OPERATION, AT_BARRIER, ENDED };

struct Thread {
  void* stack_pointer;
  char* stack;
  msl::Slot* slot;
  State state;
  msl::Site site;  // where it waits
  msl::Resolver resolve;
  uint64_t steps, next_look;  // of the hook in hooks.h
  bool for_threadgroup_memory;  // of the barrier at which it waits
  msl::Tid tid;

  uint32_t simd_group() const { return tid.simdgroup_index_in_threadgroup; }
};

inline Launch* launch;  // null while the library is loaded, when its constants are set up
inline Thread* current;
inline void* scheduler_stack;

inline void leave_fiber() { msl_switch(&current->stack_pointer, scheduler_stack); }

inline void set_thread(uint32_t to[3], const Thread& thread) {
  auto p = thread.tid.thread_position_in_threadgroup;
  to[0] = p.x, to[1] = p.y, to[2] = p.z;
}

// Notes what `thread` did wrong; the caller fills in the rest.
inline Fault& note_fault(FaultKind kind, const Thread& thread) {
  Fault& fault = launch->fault;
  fault = {};
  fault.kind = kind;
  auto p = thread.tid.threadgroup_position_in_grid;
  fault.threadgroup[0] = p.x, fault.threadgroup[1] = p.y, fault.threadgroup[2] = p.z;
  set_thread(fault.thread, thread);
  return fault;
}

inline void at(Fault& fault, const char* file, uint32_t line) { fault.file = file, fault.line = line; }

// For a place in the code that only its address tells: Python looks the line up in the debug information.
inline uint64_t code_offset(void* return_address) {
  Dl_info library;
  return dladdr(return_address, &library) ? (char*)return_address - 1 - (char*)library.dli_fbase : 0;
}
