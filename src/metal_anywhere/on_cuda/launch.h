// What Metal tells a thread about itself, from CUDA's threadIdx, blockIdx, blockDim and gridDim.
namespace mlx::core::cu::metal::on_cuda {

// CUDA launches whole blocks only. Where the grid is no multiple of the block, the grid in threads is handed to the kernel: the
// threads outside of it end at once, and a block at the edge counts as the smaller threadgroup that it is in Metal.
struct Launch {
  uint3 grid, threads;

  // Every block is full.
  __device__ Launch() : threads(blockDim.x, blockDim.y, blockDim.z) { grid = threads * threadgroups_per_grid(); }

  __device__ explicit Launch(const uint* grid_in_threads) : Launch() {
    grid = uint3(grid_in_threads[0], grid_in_threads[1], grid_in_threads[2]);
    const uint3 left = grid - dispatch_threads_per_threadgroup() * threadgroup_position_in_grid();
    threads = map(threads, left, [](uint a, uint b) { return a < b ? a : b; });
  }

  __device__ bool is_outside() const {
    const uint3 p = thread_position_in_grid();
    return p.x >= grid.x || p.y >= grid.y || p.z >= grid.z;
  }

  __device__ uint3 thread_position_in_threadgroup() const { return uint3(threadIdx.x, threadIdx.y, threadIdx.z); }
  __device__ uint3 threadgroup_position_in_grid() const { return uint3(blockIdx.x, blockIdx.y, blockIdx.z); }
  __device__ uint3 threadgroups_per_grid() const { return uint3(gridDim.x, gridDim.y, gridDim.z); }
  __device__ uint3 dispatch_threads_per_threadgroup() const { return uint3(blockDim.x, blockDim.y, blockDim.z); }
  __device__ uint3 threads_per_threadgroup() const { return threads; }
  __device__ uint3 threads_per_grid() const { return grid; }
  __device__ uint3 grid_size() const { return grid; }
  __device__ uint3 grid_origin() const { return uint3(0); }
  __device__ uint3 thread_position_in_grid() const {
    return dispatch_threads_per_threadgroup() * threadgroup_position_in_grid() + thread_position_in_threadgroup();
  }

  __device__ uint thread_index_in_threadgroup() const {
    return (threadIdx.z * threads.y + threadIdx.y) * threads.x + threadIdx.x;
  }
  __device__ uint threads_per_simdgroup() const { return 32; }
  __device__ uint thread_execution_width() const { return 32; }
  __device__ uint thread_index_in_simdgroup() const { return thread_index_in_threadgroup() % 32; }
  __device__ uint simdgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() / 32; }
  __device__ uint simdgroups_per_threadgroup() const { return groups_of(32, threads); }
  __device__ uint dispatch_simdgroups_per_threadgroup() const { return groups_of(32, dispatch_threads_per_threadgroup()); }
  __device__ uint thread_index_in_quadgroup() const { return thread_index_in_threadgroup() % 4; }
  __device__ uint quadgroup_index_in_threadgroup() const { return thread_index_in_threadgroup() / 4; }
  __device__ uint quadgroups_per_threadgroup() const { return groups_of(4, threads); }
  __device__ uint dispatch_quadgroups_per_threadgroup() const { return groups_of(4, dispatch_threads_per_threadgroup()); }

 private:
  static __device__ uint groups_of(uint size, uint3 threads) { return (threads.x * threads.y * threads.z + size - 1) / size; }
};

}  // namespace mlx::core::cu::metal::on_cuda
