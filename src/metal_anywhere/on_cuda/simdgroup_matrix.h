// Matrices of 8 x 8 that a SIMD group holds together, two neighbouring elements of a row in each lane: Apple's layout, as MLX
// relies on it (mlx/backend/metal/kernels/steel/gemm/mma.h).
//
// Products are taken in float32 with shuffles: every lane asks the others for the numbers it needs. Exact, but slow. The fast way
// on NVIDIA, tensor cores, has other shapes and rounds float32 to 10 bits.
namespace mlx::core::cu::metal {

template <class T, int COLUMNS, int ROWS>
struct simdgroup_matrix {
  static_assert(COLUMNS == 8 && ROWS == 8, "simdgroup_matrix is 8 x 8");
  vec<T, 2> elements;

  simdgroup_matrix() = default;
  __device__ explicit simdgroup_matrix(T diagonal);
  __device__ vec<T, 2>& thread_elements() { return elements; }
  __device__ const vec<T, 2>& thread_elements() const { return elements; }
};

using simdgroup_float8x8 = simdgroup_matrix<float, 8, 8>;
using simdgroup_half8x8 = simdgroup_matrix<half, 8, 8>;
using simdgroup_bfloat8x8 = simdgroup_matrix<bfloat, 8, 8>;

namespace on_cuda {

// Of the first of a lane's two elements. The bits of a lane's number are r2 c2 r1 r0 c1; c0 tells the two elements apart.
inline __device__ uint row_of(uint lane) { return (lane >> 2 & 4) | (lane >> 1 & 3); }
inline __device__ uint column_of(uint lane) { return (lane >> 1 & 4) | (lane & 1) << 1; }
inline __device__ uint lane_of(uint row, uint column) {
  return (row & 4) << 2 | (column & 4) << 1 | (row & 3) << 1 | (column & 2) >> 1;
}

// Where element (row, column) of a matrix lies in memory, whose rows are `stride` elements apart.
inline __device__ ulong place(uint row, uint column, ulong stride, ulong2 origin, bool transpose) {
  return transpose ? (origin.y + column) * stride + origin.x + row : (origin.y + row) * stride + origin.x + column;
}

}  // namespace on_cuda

template <class T, int COLUMNS, int ROWS>
__device__ simdgroup_matrix<T, COLUMNS, ROWS>::simdgroup_matrix(T diagonal) {
  const uint row = on_cuda::row_of(on_cuda::lane()), column = on_cuda::column_of(on_cuda::lane());
  elements = vec<T, 2>(row == column ? diagonal : T(0), row == column + 1 ? diagonal : T(0));
}

template <class T, int COLUMNS, int ROWS>
inline __device__ simdgroup_matrix<T, COLUMNS, ROWS> make_filled_simdgroup_matrix(scalar_t<T> value) {
  simdgroup_matrix<T, COLUMNS, ROWS> matrix;
  matrix.elements = vec<T, 2>(value);
  return matrix;
}

template <class T>
inline __device__ void simdgroup_load(
    simdgroup_matrix<T, 8, 8>& matrix, const T* source, ulong stride = 8, ulong2 origin = 0, bool transpose = false) {
  const uint row = on_cuda::row_of(on_cuda::lane()), column = on_cuda::column_of(on_cuda::lane());
  matrix.elements.x = source[on_cuda::place(row, column, stride, origin, transpose)];
  matrix.elements.y = source[on_cuda::place(row, column + 1, stride, origin, transpose)];
}

template <class T>
inline __device__ void simdgroup_store(
    simdgroup_matrix<T, 8, 8> matrix, T* target, ulong stride = 8, ulong2 origin = 0, bool transpose = false) {
  const uint row = on_cuda::row_of(on_cuda::lane()), column = on_cuda::column_of(on_cuda::lane());
  target[on_cuda::place(row, column, stride, origin, transpose)] = matrix.elements.x;
  target[on_cuda::place(row, column + 1, stride, origin, transpose)] = matrix.elements.y;
}

// d = a b + c
template <class D, class A, class B, class C>
inline __device__ void simdgroup_multiply_accumulate(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, simdgroup_matrix<C, 8, 8> c) {
  const uint row = on_cuda::row_of(on_cuda::lane()), column = on_cuda::column_of(on_cuda::lane());
  float2 sum(c.elements);
#pragma unroll
  for (uint k = 0; k < 8; ++k) {
    const float from_a = simd_shuffle(float(k % 2 ? a.elements.y : a.elements.x), on_cuda::lane_of(row, k));
    const float2 from_b = simd_shuffle(float2(b.elements), on_cuda::lane_of(k, column));
    sum.x = fma(from_a, from_b.x, sum.x);
    sum.y = fma(from_a, from_b.y, sum.y);
  }
  d.elements = vec<D, 2>(sum);
}

// d = a b
template <class D, class A, class B>
inline __device__ void simdgroup_multiply(
    simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b) {
  simdgroup_multiply_accumulate(d, a, b, simdgroup_float8x8(0.0f));
}

}  // namespace mlx::core::cu::metal
