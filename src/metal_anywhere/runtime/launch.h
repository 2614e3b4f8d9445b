// What Python and the runtime exchange: launch.py mirrors these structures with ctypes, field by field.
#pragma once
#include <stdint.h>

struct Buffer {
  char* data;
  uint64_t size;      // bytes
  uint64_t origin;    // where in them the element with all indices 0 lies: not at the start when a stride is negative
  uint8_t* written;   // one flag a byte, or null for an input
  uint64_t loads, bytes_read, stores, bytes_written;
};

enum FaultKind : int32_t {
  NO_FAULT,
  OUT_OF_BUFFER,        // subject: buffer; offset: of the access, from the buffer's origin, in bytes
  OUT_OF_ARRAY,         // name: type of the array; offset: the index
  STRAY_ACCESS,         // an address that belongs to nothing
  INPUT_WRITTEN,        // subject, offset
  UNWRITTEN_READ,       // of an output: subject, offset
  UNINITIALIZED_READ,   // of a threadgroup variable: name, offset
  UNFILLED_MATRIX,      // name: which of a function's matrices
  DATA_RACE,            // name, offset; other_thread
  ENDED_AT_BARRIER,     // count: threads that ended without reaching the barrier at which the thread waits
  DIFFERENT_BARRIERS,   // other_line
  PARTIAL_SIMD_GROUP,   // count: lanes at a SIMD function; size: lanes of the SIMD group
  THREADGROUP_MEMORY_EXCEEDED,  // name; count: bytes
  NEVER_ENDS,           // count: steps
  DIVISION_BY_ZERO,
  NO_STACKS,            // count: threads
  STACK_EXHAUSTED,
};

struct Fault {
  int32_t kind, subject;
  int64_t offset, count;
  uint32_t threadgroup[3], thread[3], other_thread[3];
  uint32_t size, writes, line, other_line;
  // Of the access, from the start of the library, when there is no line; of the other thread's access in a data race.
  uint64_t code_offset, other_code_offset;
  const char *file, *name;
};

struct Launch {
  Buffer* buffers;
  uint32_t buffer_count, grid[3], threadgroup[3];
  int32_t order;  // 0 ascending, 1 descending, 2 shuffled
  int32_t whole_simd_groups;  // whether a SIMD function that not all lanes reach is a fault
  uint64_t seed, step_limit;
  uint64_t threadgroups, barriers, simd_operations, threadgroup_bytes;
  Fault fault;
};
