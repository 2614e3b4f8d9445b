// Metal's atomics. It has one memory order only, which is CUDA's too.
namespace mlx::core::cu::metal {

enum memory_order { memory_order_relaxed };

template <class T>
struct atomic {
  T value;
};
using atomic_int = atomic<int>;
using atomic_uint = atomic<uint>;
using atomic_float = atomic<float>;

#define METAL_ATOMIC(name, cuda_function)                                                    \
  template <class T>                                                                         \
  inline __device__ T name(atomic<T>* object, scalar_t<T> operand, memory_order) {           \
    return cuda_function(&object->value, operand);                                           \
  }
METAL_ATOMIC(atomic_fetch_add_explicit, ::atomicAdd)
METAL_ATOMIC(atomic_fetch_min_explicit, ::atomicMin)
METAL_ATOMIC(atomic_fetch_max_explicit, ::atomicMax)
METAL_ATOMIC(atomic_fetch_and_explicit, ::atomicAnd)
METAL_ATOMIC(atomic_fetch_or_explicit, ::atomicOr)
#undef METAL_ATOMIC

template <class T>
inline __device__ T atomic_load_explicit(const atomic<T>* object, memory_order) {
  return *(const volatile T*)&object->value;
}

template <class T>
inline __device__ void atomic_store_explicit(atomic<T>* object, scalar_t<T> desired, memory_order) {
  *(volatile T*)&object->value = desired;
}

namespace on_cuda {

// An output of a kernel with atomic outputs.
template <class T>
inline __device__ atomic<T>* as_atomic(T* output) {
  return reinterpret_cast<atomic<T>*>(output);
}

}  // namespace on_cuda

}  // namespace mlx::core::cu::metal
