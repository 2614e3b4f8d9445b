// Barriers, and what the lanes of a SIMD group tell each other: a SIMD group is a warp. Every function counts on all 32 lanes to
// come (CUDA's full mask), where Metal takes those that do: do not call one inside of an `if` that lanes decide differently.
namespace mlx::core::cu::metal {

enum class mem_flags : uint { mem_none = 0, mem_device = 1, mem_threadgroup = 2, mem_texture = 4 };

inline __device__ constexpr mem_flags operator|(mem_flags a, mem_flags b) { return mem_flags(uint(a) | uint(b)); }

// Stronger than asked: all memory is in order for the threads that wait here. Threads that have ended are not waited for.
inline __device__ void threadgroup_barrier(mem_flags) { __syncthreads(); }

namespace on_cuda {

constexpr uint ALL_LANES = 0xffffffffu;

inline __device__ uint lane() { return ((threadIdx.z * blockDim.y + threadIdx.y) * blockDim.x + threadIdx.x) % 32; }

// CUDA's shuffles move 32 bits; a value of any other size goes in pieces.
template <class T, class Shuffle>
inline __device__ T shuffle_words(T value, Shuffle shuffle) {
  uint words[(sizeof(T) + 3) / 4] = {};
  memcpy(words, (const void*)&value, sizeof(T));
#pragma unroll
  for (uint& word : words) {
    word = shuffle(word);
  }
  memcpy((void*)&value, words, sizeof(T));
  return value;
}

}  // namespace on_cuda

inline __device__ void simdgroup_barrier(mem_flags) { __syncwarp(on_cuda::ALL_LANES); }

#define METAL_SHUFFLE(name, cuda_shuffle, argument)                                                 \
  template <class T>                                                                                \
  inline __device__ T name(T value, ushort n) {                                                     \
    return on_cuda::shuffle_words(value, [=](uint word) {                                           \
      return cuda_shuffle(on_cuda::ALL_LANES, word, argument);                                      \
    });                                                                                             \
  }
METAL_SHUFFLE(simd_shuffle, __shfl_sync, n)
METAL_SHUFFLE(simd_broadcast, __shfl_sync, n)
METAL_SHUFFLE(simd_shuffle_xor, __shfl_xor_sync, n)
METAL_SHUFFLE(simd_shuffle_up, __shfl_up_sync, n)  // where that lane is not there, the value stays
METAL_SHUFFLE(simd_shuffle_down, __shfl_down_sync, n)
#undef METAL_SHUFFLE

inline __device__ bool simd_all(bool condition) { return __all_sync(on_cuda::ALL_LANES, condition); }
inline __device__ bool simd_any(bool condition) { return __any_sync(on_cuda::ALL_LANES, condition); }

namespace on_cuda {

// All lanes get the same bits, as each pair adds the same two numbers.
template <class T, class Combine>
inline __device__ T reduce(T value, Combine combine) {
  wide_t<T> total = wide_t<T>(value);
#pragma unroll
  for (int distance = 16; distance > 0; distance /= 2) {
    total = combine(total, simd_shuffle_xor(total, distance));
  }
  return T(total);
}

// Each lane gets the total of the lanes before it; with `inclusive`, of its own value too. The first lane starts with `start`.
template <class T, class Combine>
inline __device__ T scan(T value, int start, bool inclusive, Combine combine) {
  wide_t<T> total = wide_t<T>(value);
#pragma unroll
  for (int distance = 1; distance < 32; distance *= 2) {
    const wide_t<T> before = simd_shuffle_up(total, distance);
    total = lane() >= distance ? combine(before, total) : total;
  }
  if (inclusive) return T(total);
  const wide_t<T> before = simd_shuffle_up(total, 1);
  return lane() > 0 ? T(before) : T(start);
}

}  // namespace on_cuda

#define METAL_REDUCTION(name, expression)                                           \
  template <class T>                                                                \
  inline __device__ T name(T value) {                                               \
    using W = wide_t<T>;                                                            \
    return on_cuda::reduce(value, [](W a, W b) -> W { return expression; });        \
  }
METAL_REDUCTION(simd_sum, a + b)
METAL_REDUCTION(simd_product, a * b)
METAL_REDUCTION(simd_max, max(a, b))
METAL_REDUCTION(simd_min, min(a, b))
#undef METAL_REDUCTION

#define METAL_SCAN(name, expression, start, inclusive)                                               \
  template <class T>                                                                                 \
  inline __device__ T name(T value) {                                                                \
    using W = wide_t<T>;                                                                             \
    return on_cuda::scan(value, start, inclusive, [](W a, W b) -> W { return expression; });         \
  }
METAL_SCAN(simd_prefix_inclusive_sum, a + b, 0, true)
METAL_SCAN(simd_prefix_exclusive_sum, a + b, 0, false)
METAL_SCAN(simd_prefix_inclusive_product, a * b, 1, true)
METAL_SCAN(simd_prefix_exclusive_product, a * b, 1, false)
#undef METAL_SCAN

}  // namespace mlx::core::cu::metal
