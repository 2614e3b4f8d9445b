// What the compilers' sanitizers call from an instrumented kernel. No sanitizer library is linked: these are all there are.
#pragma once
#include "memory.h"
#include "slices.h"

#define CALLER __builtin_return_address(0)

constexpr uint64_t STEPS_BETWEEN_LOOKS = 1 << 16;  // at the number of steps and at the clock

// -fsanitize=thread: before each access to memory.
#define ACCESSES(size)                                                          \
  void __tsan_read##size(void* p) { access(p, size, false, CALLER); }           \
  void __tsan_write##size(void* p) { access(p, size, true, CALLER); }           \
  void __tsan_unaligned_read##size(void* p) { access(p, size, false, CALLER); } \
  void __tsan_unaligned_write##size(void* p) { access(p, size, true, CALLER); }

[[gnu::cold, gnu::noinline]] inline void look_up(void* return_address) {
  current->next_look = current->steps + STEPS_BETWEEN_LOOKS;
  if (current->steps > launch->step_limit) {
    Fault& fault = note_fault(NEVER_ENDS, *current);
    fault.count = launch->step_limit;
    fail_at(fault, return_address, 0, false);
  }
  pause_if_due();
}

extern "C" {

ACCESSES(1)
ACCESSES(2)
ACCESSES(4)
ACCESSES(8)
ACCESSES(16)

void __tsan_read_range(void* p, size_t size) { access(p, size, false, CALLER); }
void __tsan_write_range(void* p, size_t size) { access(p, size, true, CALLER); }
void* __tsan_memcpy(void* to, const void* from, size_t size) {
  access(from, size, false, CALLER), access(to, size, true, CALLER);
  return memcpy(to, from, size);
}
void* __tsan_memmove(void* to, const void* from, size_t size) {
  access(from, size, false, CALLER), access(to, size, true, CALLER);
  return memmove(to, from, size);
}
void* __tsan_memset(void* to, int value, size_t size) {
  access(to, size, true, CALLER);
  return memset(to, value, size);
}
void __tsan_init() {}
void __tsan_func_entry(void* called_from) {
  const char* here = static_cast<const char*>(__builtin_frame_address(0));
  if (launch && here < current->stack + STACK_RESERVE) fail_at(note_fault(STACK_EXHAUSTED, *current), called_from, 0, false);
}
void __tsan_func_exit() {}

// -fsanitize-coverage=trace-pc: at the start of each basic block.
void __sanitizer_cov_trace_pc() {
  if (launch && ++current->steps >= current->next_look) look_up(CALLER);
}

// -fsanitize=bounds,integer-divide-by-zero. The structures are the compilers'.
struct SourceLocation {
  const char* file;
  uint32_t line, column;
};
struct TypeDescriptor {
  uint16_t kind, info;  // of integers: bit 0 says signed, the others are the logarithm of the bits
  char name[1];
};
struct OutOfBoundsData {
  SourceLocation location;
  const TypeDescriptor *array, *index;
};

void __ubsan_handle_out_of_bounds(OutOfBoundsData* data, uintptr_t index) {
  unsigned unused_bits = 64 - (1u << (data->index->info >> 1));
  bool is_signed = data->index->info & 1;
  Fault& fault = note_fault(OUT_OF_ARRAY, *current);
  fault.name = data->array->name;
  fault.offset = is_signed ? (int64_t)(index << unused_bits) >> unused_bits : (int64_t)index;
  at(fault, data->location.file, data->location.line);
  leave_fiber();
}

void __ubsan_handle_divrem_overflow(SourceLocation* location, uintptr_t, uintptr_t) {
  at(note_fault(DIVISION_BY_ZERO, *current), location->file, location->line);
  leave_fiber();
}

}  // extern "C"
