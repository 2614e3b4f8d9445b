// What a kernel's source may say beyond types and functions, and the end of the translation: all of it without `metal::`.
namespace mlx::core::cu {

using namespace metal;

// MLX's function takes pointers, which the shape and the strides of an input are in Metal, but not in CUDA.
template <class Index>
inline __device__ Index elem_to_loc(Index element, const Shape& shape, const Strides& strides, int ndim) {
  return elem_to_loc(element, shape.data(), strides.data(), ndim);
}

}  // namespace mlx::core::cu

#define METAL_FUNC inline __device__

#undef INFINITY
#undef NAN
#undef MAXFLOAT
#undef FLT_MAX
#define INFINITY (::cuda::std::numeric_limits<float>::infinity())
#define NAN (::cuda::std::numeric_limits<float>::quiet_NaN())
#define MAXFLOAT 3.402823466e+38f
#define FLT_MAX MAXFLOAT
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.693147180559945309417f
#define M_PI_F 3.14159265358979323846f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
