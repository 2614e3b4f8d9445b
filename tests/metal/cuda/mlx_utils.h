// What a custom kernel finds of MLX's mlx/backend/cuda/device/utils.cuh, which is not in every wheel: for nvcc, and for the CPU.
#pragma once
#ifdef __CUDACC__
#include <cooperative_groups.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cuda/std/array>
#include <cuda/std/limits>
#include <cuda/std/type_traits>
#else
#include "on_cpu.h"
#endif

namespace mlx::core::cu {

using Shape = cuda::std::array<int32_t, 10>;
using Strides = cuda::std::array<int64_t, 10>;

template <typename Index = int64_t>
inline __host__ __device__ Index elem_to_loc(Index element, const int* shape, const int64_t* strides, int ndim) {
  Index location = 0;
  for (int i = ndim - 1; i >= 0 && element > 0; --i) {
    location += (element % shape[i]) * Index(strides[i]);
    element /= shape[i];
  }
  return location;
}

}  // namespace mlx::core::cu
