// Runs a grid in one OS thread, threadgroup by threadgroup. Every Metal thread is a fiber that runs until it waits for others
// (at a barrier, or at an operation of its SIMD group), ends, or does something wrong. With no two threads running at a time,
// a run is the same each time, and a static array is threadgroup memory.
#include <algorithm>

#include "hooks.h"
#include "order.h"

extern "C" void msl_entry(char* const* buffers, const msl::Tid* tid);  // generated: calls the kernel

static std::vector<msl::Slot> slots;
static std::vector<char*> buffer_data;
static char* stacks;  // one for each thread of a threadgroup, and the scheduler's
static size_t stack_count;
static constexpr uint64_t STEPS_OF_A_WAIT = 64;

static void run_thread() {
  msl_entry(buffer_data.data(), &current->tid);
  current->state = State::ENDED;
  leave_fiber();
}

static void wait(State state, msl::Site site) {
  current->state = state;
  current->site = site;
  current->steps += STEPS_OF_A_WAIT;
  leave_fiber();
}

extern "C" {
msl::Slot* msl::msl_slot() { return current->slot; }
uint32_t msl::msl_lane() { return current->tid.thread_index_in_simdgroup; }
void msl::msl_barrier(bool for_threadgroup_memory, Site site) {
  current->for_threadgroup_memory = for_threadgroup_memory;
  wait(State::AT_BARRIER, site);
}
void msl::msl_exchange(Resolver resolve, Site site) {
  current->resolve = resolve;
  wait(State::AT_SIMD_OPERATION, site);
}
void msl::msl_atomic_access(const void* address, size_t size, bool writes) { access_atomically(address, size, writes, CALLER); }

void msl::msl_unfilled_matrix(const char* name, Site site) {
  Fault& fault = note_fault(UNFILLED_MATRIX, *current);
  fault.name = name;
  at(fault, site->_M_file_name, site->_M_line);
  leave_fiber();
}

void msl::msl_threadgroup_variable(const char* name, void* address, size_t size, size_t granule, Site site) {
  if (Variable* known = find_variable(static_cast<char*>(address)); known) return;
  launch->threadgroup_bytes += size;
  if (launch->threadgroup_bytes > THREADGROUP_MEMORY) {
    Fault& fault = note_fault(THREADGROUP_MEMORY_EXCEEDED, *current);
    fault.name = name, fault.count = launch->threadgroup_bytes;
    at(fault, site->_M_file_name, site->_M_line);
    leave_fiber();
  }
  variables.push_back({name, static_cast<char*>(address), size, granule, std::vector<Cell>(size / granule)});
}
}

static bool earlier(msl::Site a, msl::Site b) {
  return a->_M_line != b->_M_line ? a->_M_line < b->_M_line : a->_M_column < b->_M_column;
}

static bool same_place(msl::Site a, msl::Site b) {
  return a->_M_line == b->_M_line && a->_M_column == b->_M_column && !strcmp(a->_M_file_name, b->_M_file_name);
}

static void resume(Thread& thread) {
  current = &thread;
  msl_switch(&scheduler_stack, thread.stack_pointer);
}

// Computes one operation for the lanes that wait for it. Where lanes wait in different places, the place that comes first in the
// source goes first: lanes that left a loop early wait behind it for the others, as on a GPU.
static bool resolve_one(uint32_t first, uint32_t count) {
  Thread* leader = nullptr;
  for (uint32_t i = first; i < first + count; i++)
    if (threads[i].state == State::AT_SIMD_OPERATION && (!leader || earlier(threads[i].site, leader->site))) leader = &threads[i];
  if (!leader) return false;
  uint32_t active = 0;
  for (uint32_t lane = 0; lane < count; lane++) {
    Thread& thread = threads[first + lane];
    if (thread.state != State::AT_SIMD_OPERATION || thread.resolve != leader->resolve) continue;
    if (same_place(thread.site, leader->site)) active |= 1u << lane, thread.state = State::READY;
  }
  uint32_t present = __builtin_popcount(active);
  if (launch->whole_simd_groups && present < count) {
    Fault& fault = note_fault(PARTIAL_SIMD_GROUP, *leader);
    at(fault, leader->site->_M_file_name, leader->site->_M_line);
    fault.count = present, fault.size = count;
    return false;
  }
  leader->resolve(&slots[first], active);
  launch->simd_operations++;
  moments[first / msl::SIMD_WIDTH]++;
  return true;
}

// Runs the lanes of a SIMD group until each has ended or waits at a barrier.
static void run_simd_group(uint32_t first, uint32_t count, const Order& lanes) {
  do {
    for (uint32_t i = 0; i < msl::SIMD_WIDTH; i++) {
      uint32_t lane = lanes[i];
      if (lane >= count || threads[first + lane].state != State::READY) continue;
      resume(threads[first + lane]);
      if (launch->fault.kind) return;
    }
  } while (resolve_one(first, count));
}

// Lets the threads go on if all of them wait at the same barrier. False: all have ended, or something is wrong.
static bool pass_barrier(uint32_t count) {
  Thread* waiting = nullptr;
  uint32_t ended = 0;
  for (uint32_t i = 0; i < count; i++) {
    if (threads[i].state == State::ENDED) {
      ended++;
    } else if (!waiting) {
      waiting = &threads[i];
    } else if (!same_place(threads[i].site, waiting->site)) {
      Fault& fault = note_fault(DIFFERENT_BARRIERS, *waiting);
      at(fault, waiting->site->_M_file_name, waiting->site->_M_line);
      fault.other_line = threads[i].site->_M_line;
      set_thread(fault.other_thread, threads[i]);
      return false;
    }
  }
  if (!waiting) return false;
  if (ended) {
    Fault& fault = note_fault(ENDED_AT_BARRIER, *waiting);
    at(fault, waiting->site->_M_file_name, waiting->site->_M_line);
    fault.count = ended;
    return false;
  }
  for (uint32_t i = 0; i < count; i++) threads[i].state = State::READY;
  launch->barriers++;
  interval += waiting->for_threadgroup_memory;
  return true;
}

static void run_threadgroup(uint32_t count, uint64_t& random) {
  uint32_t groups = (count + msl::SIMD_WIDTH - 1) / msl::SIMD_WIDTH;
  moments.assign(groups, 0);
  first_interval = ++interval;
  Order lanes(launch->order, msl::SIMD_WIDTH, random), group_order(launch->order, groups, random);
  do {
    pause_if_due();
    for (uint32_t i = 0; i < groups; i++) {
      uint32_t first = group_order[i] * msl::SIMD_WIDTH;
      run_simd_group(first, std::min<uint32_t>(msl::SIMD_WIDTH, count - first), lanes);
      if (launch->fault.kind) return;
    }
  } while (pass_barrier(count));
}

// The attributes of the threads of the threadgroup at `position`; returns how many there are: fewer at the edge of the grid.
static uint32_t prepare_threadgroup(const uint32_t position[3], const uint32_t full[3], const uint32_t groups[3]) {
  const uint32_t* grid = launch->grid;
  uint32_t size[3], index = 0;
  for (int i = 0; i < 3; i++) size[i] = std::min(full[i], grid[i] - position[i] * full[i]);
  uint32_t count = size[0] * size[1] * size[2], full_count = full[0] * full[1] * full[2];
  for (uint32_t z = 0; z < size[2]; z++)
    for (uint32_t y = 0; y < size[1]; y++)
      for (uint32_t x = 0; x < size[0]; x++, index++) {
        Thread& thread = threads[index];
        thread = {};
        thread.stack = stacks + index * STACK_SIZE;
        thread.stack_pointer = prepare_stack(thread.stack, run_thread);
        thread.slot = &slots[index];
        thread.next_look = STEPS_BETWEEN_LOOKS;
        msl::Tid& tid = thread.tid;
        tid.grid_origin = {0, 0, 0};
        tid.grid_size = tid.threads_per_grid = {grid[0], grid[1], grid[2]};
        tid.threadgroups_per_grid = {groups[0], groups[1], groups[2]};
        tid.threadgroup_position_in_grid = {position[0], position[1], position[2]};
        tid.thread_position_in_threadgroup = {x, y, z};
        tid.thread_position_in_grid = {position[0] * full[0] + x, position[1] * full[1] + y, position[2] * full[2] + z};
        tid.threads_per_threadgroup = {size[0], size[1], size[2]};
        tid.dispatch_threads_per_threadgroup = {full[0], full[1], full[2]};
        tid.thread_index_in_threadgroup = index;
        tid.thread_index_in_simdgroup = index % 32;
        tid.thread_index_in_quadgroup = index % 4;
        tid.simdgroup_index_in_threadgroup = index / 32;
        tid.quadgroup_index_in_threadgroup = index / 4;
        tid.simdgroups_per_threadgroup = (count + 31) / 32;
        tid.quadgroups_per_threadgroup = (count + 3) / 4;
        tid.dispatch_simdgroups_per_threadgroup = (full_count + 31) / 32;
        tid.dispatch_quadgroups_per_threadgroup = (full_count + 3) / 4;
        tid.threads_per_simdgroup = tid.thread_execution_width = 32;
      }
  return count;
}

// The scheduler, on a stack of its own, so that it can be left in the middle like any thread.
static void run_grid() {
  uint32_t full[3], groups[3];
  for (int i = 0; i < 3; i++) {
    full[i] = std::min(launch->threadgroup[i], launch->grid[i]);
    groups[i] = (launch->grid[i] + full[i] - 1) / full[i];
  }
  uint64_t random = launch->seed, count = (uint64_t)groups[0] * groups[1] * groups[2];
  Order order(launch->order, count, random);
  for (uint64_t i = 0; i < count; i++) {
    uint64_t number = order[i];
    uint32_t position[3] = {number % groups[0], number / groups[0] % groups[1], number / groups[0] / groups[1]};
    run_threadgroup(prepare_threadgroup(position, full, groups), random);
    if (launch->fault.kind) break;
    launch->threadgroups++;
  }
  launch = nullptr;
  msl_switch(&paused_stack, python_stack);
}

// What Python calls: msl_begin, msl_go_on until no more of the launch is left to do, and msl_end, at any time.
#define MSL_EXPORT extern "C" __attribute__((visibility("default")))

MSL_EXPORT bool msl_begin(Launch* given) {
  uint32_t most = 1;
  for (int i = 0; i < 3; i++) most *= std::min(given->threadgroup[i], given->grid[i]);
  stack_count = most + 1;
  stacks = allocate_stacks(stack_count);
  if (!stacks) {
    given->fault.kind = NO_STACKS, given->fault.count = most;
    return false;
  }
  threads.assign(most, {});
  slots.assign((most + 31) / 32 * 32, {});
  buffer_data.clear();
  for (uint32_t i = 0; i < given->buffer_count; i++) buffer_data.push_back(given->buffers[i].data + given->buffers[i].origin);
  variables.clear();
  launch = given;
  run_slice(prepare_stack(stacks + most * STACK_SIZE, run_grid));
  return launch;
}

MSL_EXPORT bool msl_go_on() {
  run_slice(paused_stack);
  return launch;
}

MSL_EXPORT void msl_end() {
  launch = nullptr;
  if (stacks) munmap(stacks, stack_count * STACK_SIZE);
  stacks = nullptr;
}
