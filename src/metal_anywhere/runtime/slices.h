// A launch runs in slices of time. After each it goes back to Python, which looks for signals, lets its other threads run, and
// then lets the launch go on where it was.
#pragma once
#include <time.h>

#include "fiber.h"

constexpr uint64_t SLICE = 20'000'000;  // nanoseconds

inline void *python_stack, *paused_stack;
inline uint64_t slice_end;

inline uint64_t now() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000'000ull + t.tv_nsec;
}

// Called on the launch's side, from whichever fiber runs.
inline void pause_if_due() {
  if (now() >= slice_end) msl_switch(&paused_stack, python_stack);
}

// Called on Python's side: lets the launch run, from what was prepared or paused, for one slice.
inline void run_slice(void* stack) {
  slice_end = now() + SLICE;
  msl_switch(&python_stack, stack);
}
