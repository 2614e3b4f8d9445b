// Every access to memory that a kernel makes passes through here: the kernel is compiled with the instrumentation of
// ThreadSanitizer, which calls __tsan_read4(address) and its like before each access. The functions are ours.
#pragma once
#include <string.h>

#include <vector>

#include "thread.h"

constexpr size_t THREADGROUP_MEMORY = 32 * 1024;

// What is known of a number in threadgroup memory. Barriers divide time into intervals, counted through the whole launch;
// operations of a SIMD group divide its own time further. Two accesses by different threads, one of them a write, are in order
// if a barrier, or within one SIMD group such an operation, lies between them.
struct Cell {
  uint64_t write_interval, read_interval;
  uint32_t write_moment, read_moment;
  uint16_t writer, reader;
  bool several_readers, several_groups;
  void *written_at, *read_at;  // in the code
};

struct Variable {
  const char* name;
  char* address;
  size_t size, granule;
  std::vector<Cell> cells;
};

inline std::vector<Variable> variables;
inline uint64_t interval, first_interval;  // of the launch so far; of this threadgroup
inline std::vector<uint32_t> moments;      // a SIMD group's operations so far
inline std::vector<Thread> threads;
inline const char* constants;              // a page of constants of the kernel's source
constexpr uintptr_t PAGE = 4096;

inline uint16_t index_of(const Thread& thread) { return thread.tid.thread_index_in_threadgroup; }

[[gnu::cold]] inline void fail_at(Fault& fault, void* return_address, size_t size, bool writes) {
  fault.size = size, fault.writes = writes;
  fault.code_offset = code_offset(return_address);
  leave_fiber();
}

[[gnu::cold]] inline void fail_stray(const char* address, void* return_address, size_t size, bool writes) {
  // The buffer that lies nearest is the one that was meant: each has a wide margin around it.
  Fault& fault = note_fault(STRAY_ACCESS, *current);
  int64_t nearest = 1 << 16;
  for (uint32_t i = 0; i < launch->buffer_count; i++) {
    const Buffer& buffer = launch->buffers[i];
    int64_t offset = address - buffer.data;
    int64_t distance = offset < 0 ? -offset : offset - (int64_t)buffer.size;
    if (distance < nearest) {
      nearest = distance;
      fault.kind = OUT_OF_BUFFER, fault.subject = i, fault.offset = offset - (int64_t)buffer.origin;
    }
  }
  fail_at(fault, return_address, size, writes);
}

[[gnu::cold]] inline void fail_in(FaultKind kind, const Variable& variable, size_t number, void* return_address, size_t size,
                                  bool writes, uint16_t other, void* other_place) {
  Fault& fault = note_fault(kind, *current);
  fault.name = variable.name, fault.offset = number;
  set_thread(fault.other_thread, threads[other]);
  fault.other_code_offset = code_offset(other_place);
  fail_at(fault, return_address, size, writes);
}

inline bool in_order(uint64_t then_interval, uint32_t then_moment, uint16_t other, const Thread& now) {
  if (then_interval != interval || &threads[other] == &now) return true;
  return threads[other].simd_group() == now.simd_group() && then_moment != moments[now.simd_group()];
}

inline void access_variable(Variable& variable, size_t offset, size_t size, bool writes, void* return_address) {
  const Thread& now = *current;
  uint16_t self = index_of(now);
  uint32_t moment = moments[now.simd_group()];
  for (size_t i = offset / variable.granule; i * variable.granule < offset + size; i++) {
    Cell& cell = variable.cells[i];
    if (!writes && cell.write_interval < first_interval)
      return fail_in(UNINITIALIZED_READ, variable, i, return_address, size, writes, self, nullptr);
    if (!in_order(cell.write_interval, cell.write_moment, cell.writer, now))
      return fail_in(DATA_RACE, variable, i, return_address, size, writes, cell.writer, cell.written_at);
    if (writes) {
      bool other_groups = cell.several_groups && cell.read_interval == interval;
      bool same_moment = cell.several_readers && cell.read_interval == interval && cell.read_moment == moment;
      if (other_groups || same_moment || !in_order(cell.read_interval, cell.read_moment, cell.reader, now))
        return fail_in(DATA_RACE, variable, i, return_address, size, writes, cell.reader, cell.read_at);
      cell.write_interval = interval, cell.write_moment = moment, cell.writer = self, cell.written_at = return_address;
    } else {
      bool again = cell.read_interval == interval;
      cell.several_groups = again && (cell.several_groups || threads[cell.reader].simd_group() != now.simd_group());
      cell.several_readers = again && (cell.read_moment == moment ? cell.several_readers || cell.reader != self : false);
      cell.read_interval = interval, cell.read_moment = moment, cell.reader = self, cell.read_at = return_address;
    }
  }
}

// Whether the address lies in the kernel's library: tables that its source declares as `constant`. Looking it up is slow, so
// the page is remembered.
inline bool is_constant(const char* address) {
  if ((size_t)(address - constants) < PAGE) return true;
  Dl_info found, own;
  if (!dladdr(address, &found) || !dladdr((void*)&launch, &own) || found.dli_fbase != own.dli_fbase) return false;
  constants = (const char*)((uintptr_t)address & ~(PAGE - 1));
  return true;
}

inline void access_buffer(uint32_t index, size_t offset, size_t size, bool writes, void* return_address) {
  Buffer& buffer = launch->buffers[index];
  bool fits = offset + size <= buffer.size;
  if (fits && writes && buffer.written) {
    memset(buffer.written + offset, 1, size);
    buffer.stores++, buffer.bytes_written += size;
  } else if (fits && !writes && (!buffer.written || buffer.written[offset])) {
    buffer.loads++, buffer.bytes_read += size;
  } else {
    Fault& fault = note_fault(!fits ? OUT_OF_BUFFER : writes ? INPUT_WRITTEN : UNWRITTEN_READ, *current);
    fault.subject = index, fault.offset = (int64_t)offset - (int64_t)buffer.origin;
    fail_at(fault, return_address, size, writes);
  }
}

inline Variable* find_variable(const char* address) {
  for (Variable& variable : variables)
    if ((size_t)(address - variable.address) < variable.size) return &variable;
  return nullptr;
}

inline void access(const void* pointer, size_t size, bool writes, void* return_address) {
  const char* address = static_cast<const char*>(pointer);
  if (!launch || (size_t)(address - current->stack) < STACK_SIZE) return;
  for (uint32_t i = 0; i < launch->buffer_count; i++) {
    size_t offset = address - launch->buffers[i].data;
    if (offset < launch->buffers[i].size) return access_buffer(i, offset, size, writes, return_address);
  }
  if (Variable* variable = find_variable(address))
    access_variable(*variable, address - variable->address, size, writes, return_address);
  else if (writes || !is_constant(address))
    fail_stray(address, return_address, size, writes);
}

inline void access_atomically(const void* pointer, size_t size, bool writes, void* return_address) {
  Variable* variable = find_variable(static_cast<const char*>(pointer));
  if (!variable) return access(pointer, size, writes, return_address);
  Cell& cell = variable->cells[(static_cast<const char*>(pointer) - variable->address) / variable->granule];
  if (writes) cell.write_interval = interval, cell.write_moment = moments[current->simd_group()], cell.writer = index_of(*current),
              cell.written_at = return_address;
}
