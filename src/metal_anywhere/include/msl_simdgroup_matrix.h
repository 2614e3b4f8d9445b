// <metal_simdgroup_matrix>: an 8 x 8 matrix that the 32 lanes of a SIMD group hold together, two elements each.
//
// Which lane holds which elements is what Apple's GPUs do, and what MLX's kernels rely on (get_coord in
// mlx/backend/metal/kernels/steel/gemm/mma.h). The lanes of the first row: 0 0 1 1 8 8 9 9.
//
// In Metal a new matrix holds anything. Here all its bits are 1, which no computation gives, so that its use is noticed.
#pragma once
#include "msl_lanes.h"

namespace metal {

template <class T, int COLUMNS, int ROWS = COLUMNS>
struct simdgroup_matrix {
  static_assert(COLUMNS == 8 && ROWS == 8, "a simdgroup_matrix is 8 x 8");
  typedef vec<T, 2> storage_type;

  MSL_INLINE simdgroup_matrix() { __builtin_memset((void*)&elements, 0xff, sizeof elements); }
  explicit simdgroup_matrix(T diagonal) {
    int lane = msl::msl_lane();
    for (int i = 0; i < 2; i++) elements[i] = row(lane) == column(lane) + i ? diagonal : T(0);
  }

  storage_type& thread_elements() { return elements; }
  const storage_type& thread_elements() const { return elements; }

  // Where the first of a lane's two elements is; the second is to its right.
  static MSL_INLINE constexpr int row(int lane) { return lane / 4 % 8 / 4 * 4 + lane / 2 % 4; }
  static MSL_INLINE constexpr int column(int lane) { return lane / 8 % 2 * 4 + lane % 2 * 2; }

 private:
  storage_type elements;
};

typedef simdgroup_matrix<float, 8, 8> simdgroup_float8x8;
typedef simdgroup_matrix<half, 8, 8> simdgroup_half8x8;
typedef simdgroup_matrix<bfloat, 8, 8> simdgroup_bfloat8x8;

template <class T, int COLUMNS, int ROWS = COLUMNS>
simdgroup_matrix<T, COLUMNS, ROWS> make_filled_simdgroup_matrix(T value) {
  simdgroup_matrix<T, COLUMNS, ROWS> result;
  result.thread_elements() = vec<T, 2>(value);
  return result;
}

// Stops a kernel that uses a matrix into which nothing has been put. `name`: of the parameter.
template <class T>
MSL_UNCHECKED void check_filled(const simdgroup_matrix<T, 8, 8>& matrix, const char* name, msl::Site site) {
  const unsigned char* bytes = (const unsigned char*)&matrix;
  for (size_t element = 0; element < 2; element++) {
    bool filled = false;
    for (size_t i = 0; i < sizeof(T); i++) filled |= bytes[element * sizeof(T) + i] != 0xff;
    if (!filled) msl::msl_unfilled_matrix(name, site);
  }
}

// The place of element `i` of this lane in memory. `origin` is (column, row).
template <class T>
MSL_INLINE ulong simdgroup_offset(const simdgroup_matrix<T, 8, 8>& matrix, int i, ulong elements_per_row, const ulong2& origin,
                                  bool transpose) {
  int lane = msl::msl_lane();
  ulong row = matrix.row(lane), column = matrix.column(lane) + i;
  return transpose ? (origin.y + column) * elements_per_row + origin.x + row
                   : (origin.y + row) * elements_per_row + origin.x + column;
}

// Both are inlined, so that an access to memory in them has the line of the kernel that calls them.
template <class T>
MSL_INLINE void simdgroup_load(simdgroup_matrix<T, 8, 8>& matrix, const T* source, ulong elements_per_row = 8,
                               ulong2 origin = 0, bool transpose = false) {
  for (int i = 0; i < 2; i++)
    matrix.thread_elements()[i] = source[simdgroup_offset(matrix, i, elements_per_row, origin, transpose)];
}

template <class T>
MSL_INLINE void simdgroup_store(const simdgroup_matrix<T, 8, 8>& matrix, T* target, ulong elements_per_row = 8,
                                ulong2 origin = 0, bool transpose = false, MSL_SITE) {
  check_filled(matrix, "the matrix that is stored", site_);
  for (int i = 0; i < 2; i++)
    target[simdgroup_offset(matrix, i, elements_per_row, origin, transpose)] = matrix.thread_elements()[i];
}

// A lane's elements of the three matrices. Products are summed in float, whatever the matrices hold.
struct MultiplyAccumulate {
  float2 a, b, c;
};

MSL_UNCHECKED inline void multiply_accumulate(msl::Slot* lanes, uint32_t active) {
  typedef simdgroup_float8x8 Matrix;
  float a[8][8], b[8][8];
  for (int lane = 0; lane < msl::SIMD_WIDTH; lane++) {
    auto operands = msl::get<MultiplyAccumulate>(lanes[lane]);
    for (int i = 0; i < 2; i++) {
      bool there = msl::takes_part(active, lane);  // Metal requires all lanes
      a[Matrix::row(lane)][Matrix::column(lane) + i] = there ? operands.a[i] : __builtin_nanf("");
      b[Matrix::row(lane)][Matrix::column(lane) + i] = there ? operands.b[i] : __builtin_nanf("");
    }
  }
  for (int lane = 0; lane < msl::SIMD_WIDTH; lane++) {
    if (!msl::takes_part(active, lane)) continue;
    float2 sum = msl::get<MultiplyAccumulate>(lanes[lane]).c;
    for (int i = 0; i < 2; i++)
      for (int k = 0; k < 8; k++) sum[i] += a[Matrix::row(lane)][k] * b[k][Matrix::column(lane) + i];
    msl::put(lanes[lane], MultiplyAccumulate{sum, sum, sum});
  }
}

// d = a b + c
template <class D, class A, class B, class C>
void simdgroup_multiply_accumulate(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b,
                                   simdgroup_matrix<C, 8, 8> c, MSL_SITE) {
  check_filled(a, "the matrix a of a product a b", site_);
  check_filled(b, "the matrix b of a product a b", site_);
  check_filled(c, "the matrix c of a b + c", site_);
  MultiplyAccumulate mine = {float2(a.thread_elements()), float2(b.thread_elements()), float2(c.thread_elements())};
  d.thread_elements() = vec<D, 2>(msl::exchange(mine, &multiply_accumulate, site_).c);
}

template <class D, class A, class B>
void simdgroup_multiply(simdgroup_matrix<D, 8, 8>& d, simdgroup_matrix<A, 8, 8> a, simdgroup_matrix<B, 8, 8> b, MSL_SITE) {
  simdgroup_multiply_accumulate(d, a, b, make_filled_simdgroup_matrix<D, 8, 8>(D(0)), site_);
}

}  // namespace metal
