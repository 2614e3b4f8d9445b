// Vectors of two to four components. Types of our own, which hide CUDA's of the same names: CUDA's float4 has no constructor
// and no operators. Size and alignment are Metal's, so that a float4 is read from memory in one load of 16 bytes.
namespace mlx::core::cu::metal {

template <class T, int N>
struct vec;

template <class T>
struct alignas(2 * sizeof(T)) vec<T, 2> {
  T x, y;
  vec() = default;
  __device__ vec(T x, T y) : x(x), y(y) {}
  __device__ vec(T scalar) : vec(scalar, scalar) {}
  template <class U>
  __device__ explicit vec(vec<U, 2> v) : vec(T(v.x), T(v.y)) {}
  __device__ T& operator[](int i) { return (&x)[i]; }
  __device__ const T& operator[](int i) const { return (&x)[i]; }
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 3> {
  T x, y, z;
  vec() = default;
  __device__ vec(T x, T y, T z) : x(x), y(y), z(z) {}
  __device__ vec(T scalar) : vec(scalar, scalar, scalar) {}
  template <class U>
  __device__ explicit vec(vec<U, 3> v) : vec(T(v.x), T(v.y), T(v.z)) {}
  __device__ T& operator[](int i) { return (&x)[i]; }
  __device__ const T& operator[](int i) const { return (&x)[i]; }
};

template <class T>
struct alignas(4 * sizeof(T)) vec<T, 4> {
  T x, y, z, w;
  vec() = default;
  __device__ vec(T x, T y, T z, T w) : x(x), y(y), z(z), w(w) {}
  __device__ vec(T scalar) : vec(scalar, scalar, scalar, scalar) {}
  template <class U>
  __device__ explicit vec(vec<U, 4> v) : vec(T(v.x), T(v.y), T(v.z), T(v.w)) {}
  __device__ T& operator[](int i) { return (&x)[i]; }
  __device__ const T& operator[](int i) const { return (&x)[i]; }
};

#define METAL_VECTOR_NAMES(T) \
  using T##2 = vec<T, 2>;     \
  using T##3 = vec<T, 3>;     \
  using T##4 = vec<T, 4>;
METAL_VECTOR_NAMES(char)
METAL_VECTOR_NAMES(uchar)
METAL_VECTOR_NAMES(short)
METAL_VECTOR_NAMES(ushort)
METAL_VECTOR_NAMES(int)
METAL_VECTOR_NAMES(uint)
METAL_VECTOR_NAMES(long)
METAL_VECTOR_NAMES(ulong)
METAL_VECTOR_NAMES(half)
METAL_VECTOR_NAMES(bfloat)
METAL_VECTOR_NAMES(float)
#undef METAL_VECTOR_NAMES

// f, component by component.
template <class T, class F>
inline __device__ vec<T, 2> map(vec<T, 2> a, vec<T, 2> b, F f) {
  return {f(a.x, b.x), f(a.y, b.y)};
}
template <class T, class F>
inline __device__ vec<T, 3> map(vec<T, 3> a, vec<T, 3> b, F f) {
  return {f(a.x, b.x), f(a.y, b.y), f(a.z, b.z)};
}
template <class T, class F>
inline __device__ vec<T, 4> map(vec<T, 4> a, vec<T, 4> b, F f) {
  return {f(a.x, b.x), f(a.y, b.y), f(a.z, b.z), f(a.w, b.w)};
}

template <class T>
struct identity {
  using type = T;
};
template <class T>
using scalar_t = typename identity<T>::type;  // a parameter that takes what converts to T

#define METAL_VECTOR_OPERATOR(op)                                             \
  template <class T, int N>                                                   \
  inline __device__ vec<T, N> operator op(vec<T, N> a, vec<T, N> b) {         \
    return map(a, b, [](T p, T q) { return T(p op q); });                     \
  }                                                                           \
  template <class T, int N>                                                   \
  inline __device__ vec<T, N> operator op(vec<T, N> a, scalar_t<T> b) {       \
    return a op vec<T, N>(b);                                                 \
  }                                                                           \
  template <class T, int N>                                                   \
  inline __device__ vec<T, N> operator op(scalar_t<T> a, vec<T, N> b) {       \
    return vec<T, N>(a) op b;                                                 \
  }                                                                           \
  template <class T, int N>                                                   \
  inline __device__ vec<T, N>& operator op##=(vec<T, N>& a, vec<T, N> b) {    \
    return a = a op b;                                                        \
  }                                                                           \
  template <class T, int N>                                                   \
  inline __device__ vec<T, N>& operator op##=(vec<T, N>& a, scalar_t<T> b) {  \
    return a = a op vec<T, N>(b);                                             \
  }
METAL_VECTOR_OPERATOR(+)
METAL_VECTOR_OPERATOR(-)
METAL_VECTOR_OPERATOR(*)
METAL_VECTOR_OPERATOR(/)
METAL_VECTOR_OPERATOR(&)
METAL_VECTOR_OPERATOR(|)
METAL_VECTOR_OPERATOR(^)
METAL_VECTOR_OPERATOR(<<)
METAL_VECTOR_OPERATOR(>>)
#undef METAL_VECTOR_OPERATOR

template <class T, int N>
inline __device__ vec<T, N> operator-(vec<T, N> a) {
  return vec<T, N>(T(0)) - a;
}

template <class T, int N>
inline __device__ T dot(vec<T, N> a, vec<T, N> b) {
  wide_t<T> sum = 0;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    sum += wide_t<T>(a[i]) * wide_t<T>(b[i]);
  }
  return T(sum);
}

}  // namespace mlx::core::cu::metal
