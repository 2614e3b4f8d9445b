// As much of CUDA as the headers of on_cuda/ use, on a CPU: each thread of a block is a fiber, and the blocks run one by one. It
// holds kernels to CUDA's contract: lanes that do not all come to a warp's function, or threads to a barrier, end in an error.
#pragma once
#include <ucontext.h>

#include <array>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <type_traits>
#include <vector>

struct uint3 {
  unsigned x, y, z;
};
inline uint3 threadIdx, blockIdx, blockDim, gridDim;

#define __global__
#define __device__
#define __host__
#define __shared__ static
#define __grid_constant__
#define __location__(where)
#define __launch_bounds__(threads)

namespace on_cpu {

// Where fibers wait for each other: all 32 of a warp, or those of a block that have not ended.
struct Meeting {
  unsigned expected, arrived = 0, round = 0;
  uint32_t words[32];
};

struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack;
  uint3 index;
  unsigned number;
  bool ended = false;
};

inline ucontext_t scheduler;
inline Fiber* current;
inline std::vector<Meeting> warps;
inline Meeting block;
inline std::function<void()> kernel;
inline bool moved;  // since the last look at all fibers

inline void release(Meeting& meeting) { meeting.arrived = 0, ++meeting.round, moved = true; }

inline void meet(Meeting& meeting) {
  const unsigned round = meeting.round;
  if (++meeting.arrived == meeting.expected) release(meeting);
  while (meeting.round == round) swapcontext(&current->context, &scheduler);
}

inline void run_fiber() {
  kernel();
  current->ended = moved = true;
  if (--block.expected == block.arrived && block.arrived) release(block);
  swapcontext(&current->context, &scheduler);
}

inline bool run_block() {
  const unsigned threads = blockDim.x * blockDim.y * blockDim.z;
  std::vector<Fiber> fibers(threads);
  warps.assign((threads + 31) / 32, Meeting{32});
  block = Meeting{threads};
  for (unsigned i = 0; i < threads; ++i) {
    Fiber& fiber = fibers[i];
    constexpr size_t STACK = 256 * 1024;
    fiber.stack.reset(new char[STACK]);
    fiber.number = i;
    fiber.index = {i % blockDim.x, i / blockDim.x % blockDim.y, i / blockDim.x / blockDim.y};
    getcontext(&fiber.context);
    fiber.context.uc_stack.ss_sp = fiber.stack.get();
    fiber.context.uc_stack.ss_size = STACK;
    makecontext(&fiber.context, run_fiber, 0);
  }
  for (unsigned left = threads; left > 0;) {
    moved = false;
    for (Fiber& fiber : fibers) {
      if (fiber.ended) continue;
      current = &fiber;
      threadIdx = fiber.index;
      swapcontext(&scheduler, &fiber.context);
      left -= fiber.ended;
    }
    if (!moved) return false;  // all wait for someone who does not come
  }
  return true;
}

inline bool launch(const unsigned* grid, const unsigned* threads, std::function<void()> call) {
  gridDim = {grid[0], grid[1], grid[2]};
  blockDim = {threads[0], threads[1], threads[2]};
  kernel = call;
  for (unsigned i = 0; i < grid[0] * grid[1] * grid[2]; ++i) {
    blockIdx = {i % grid[0], i / grid[0] % grid[1], i / grid[0] / grid[1]};
    if (!run_block()) return false;
  }
  return true;
}

// The word that the lane chosen by `source` (from this lane's number) has brought.
template <class Source>
uint32_t exchange(unsigned mask, uint32_t word, Source source) {
  const unsigned lane = current->number % 32;
  Meeting& warp = warps[current->number / 32];
  if (mask != 0xffffffff) return 0;  // a part of a warp: not used, so not built
  warp.words[lane] = word;
  meet(warp);
  const int from = source(lane);
  const uint32_t result = warp.words[from >= 0 && from < 32 ? from : lane];
  meet(warp);
  return result;
}

}  // namespace on_cpu

inline void __syncthreads() { on_cpu::meet(on_cpu::block); }
inline void __syncwarp(unsigned) { on_cpu::meet(on_cpu::warps[on_cpu::current->number / 32]); }
inline uint32_t __shfl_sync(unsigned mask, uint32_t word, int source) {
  return on_cpu::exchange(mask, word, [=](int) { return source & 31; });
}
inline uint32_t __shfl_xor_sync(unsigned mask, uint32_t word, int bits) {
  return on_cpu::exchange(mask, word, [=](int lane) { return lane ^ bits; });
}
inline uint32_t __shfl_up_sync(unsigned mask, uint32_t word, unsigned distance) {
  return on_cpu::exchange(mask, word, [=](int lane) { return lane - int(distance); });
}
inline uint32_t __shfl_down_sync(unsigned mask, uint32_t word, unsigned distance) {
  return on_cpu::exchange(mask, word, [=](int lane) { return lane + int(distance); });
}
inline unsigned __ballot_sync(unsigned mask, int condition) {
  unsigned votes = 0;
  for (int lane = 0; lane < 32; ++lane) votes |= unsigned(__shfl_sync(mask, condition != 0, lane)) << lane;
  return votes;
}
inline int __all_sync(unsigned mask, int condition) { return __ballot_sync(mask, condition) == 0xffffffff; }
inline int __any_sync(unsigned mask, int condition) { return __ballot_sync(mask, condition) != 0; }

#define ATOMIC(name, expression)      \
  template <class T>                  \
  T name(T* address, T b) {           \
    const T a = *address;             \
    *address = expression;            \
    return a;                         \
  }
ATOMIC(atomicAdd, a + b)
ATOMIC(atomicMin, a < b ? a : b)
ATOMIC(atomicMax, a < b ? b : a)
ATOMIC(atomicAnd, a & b)
ATOMIC(atomicOr, a | b)
ATOMIC(atomicXor, a ^ b)
ATOMIC(atomicExch, b)
#undef ATOMIC

inline float rsqrtf(float x) { return 1 / std::sqrt(x); }
#define __expf expf
#define __logf logf
#define __log2f log2f
#define __sinf sinf
#define __cosf cosf
#define __powf powf

inline float upper_half(float value) {  // rounded to the nearest, ties to even
  uint32_t bits;
  memcpy(&bits, &value, 4);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000;
  memcpy(&value, &bits, 4);
  return value;
}

struct __half {
  _Float16 value;
  __half() = default;
  template <class A, std::enable_if_t<std::is_arithmetic_v<A>, int> = 0>
  __half(A a) : value(_Float16(float(a))) {}
  operator float() const { return value; }
};

struct __nv_bfloat16 {
  uint16_t bits;
  __nv_bfloat16() = default;
  template <class A, std::enable_if_t<std::is_arithmetic_v<A>, int> = 0>
  __nv_bfloat16(A a) {
    const float rounded = upper_half(float(a));
    memcpy(&bits, (const char*)&rounded + 2, 2);
  }
  operator float() const {
    const uint32_t wide = uint32_t(bits) << 16;
    float value;
    memcpy(&value, &wide, 4);
    return value;
  }
};

#define OPERATOR(T, op)                                               \
  inline T operator op(T a, T b) { return T(float(a) op float(b)); }  \
  inline T& operator op##=(T& a, T b) { return a = a op b; }
#define OPERATORS(T) OPERATOR(T, +) OPERATOR(T, -) OPERATOR(T, *) OPERATOR(T, /)
OPERATORS(__half)
OPERATORS(__nv_bfloat16)
#undef OPERATORS
#undef OPERATOR

template <>
struct std::numeric_limits<__half> {
  static __half infinity() { return INFINITY; }
  static __half lowest() { return -65504.0f; }
};
template <>
struct std::numeric_limits<__nv_bfloat16> {
  static __nv_bfloat16 infinity() { return INFINITY; }
};

namespace cuda::std {
using namespace ::std;
}
namespace cooperative_groups {}
