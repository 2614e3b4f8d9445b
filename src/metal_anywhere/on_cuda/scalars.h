// Metal's scalar types, and arithmetic that mixes them as Metal does.
namespace mlx::core::cu::metal {

using uchar = unsigned char;
using ushort = unsigned short;
using uint = unsigned int;
using ulong = unsigned long;
using half = __half;
using bfloat = __nv_bfloat16;
using float16_t = half;
using bfloat16_t = bfloat;
using ::cuda::std::numeric_limits;

template <bool CONDITION>
using if_t = ::cuda::std::enable_if_t<CONDITION, int>;
template <class A, class B>
inline constexpr bool is_same = ::cuda::std::is_same_v<A, B>;
template <class T>
inline constexpr bool is_integer = ::cuda::std::is_integral_v<T>;
template <class T>
inline constexpr bool is_short_float = is_same<T, half> || is_same<T, bfloat>;
template <class T>
inline constexpr bool is_float = ::cuda::std::is_floating_point_v<T> || is_short_float<T>;

// The type of a sum of an A and a B: half with int is half, half with float is float, uint with int is uint.
template <class A, class B, bool = is_integer<A>, bool = is_integer<B>>
struct common {
  using type = ::cuda::std::conditional_t<is_same<A, B>, A, float>;
};
template <class A, class B>
struct common<A, B, true, false> {
  using type = B;
};
template <class A, class B>
struct common<A, B, false, true> {
  using type = A;
};
template <class A, class B>
struct common<A, B, true, true> {
  using type = decltype(A() + B());
};
template <class A, class B>
using common_t = typename common<A, B>::type;

// Where sums of T are taken.
template <class T>
using wide_t = ::cuda::std::conditional_t<is_short_float<T>, float, T>;

// Two numbers of which one is a half or a bfloat, and the other is of another type. CUDA finds such an expression ambiguous.
template <class A, class B>
using if_mixed = if_t<!is_same<A, B> && ((is_short_float<A> && (is_float<B> || is_integer<B>)) ||
                                         (is_short_float<B> && (is_float<A> || is_integer<A>)))>;

// The bits of `from`, seen as another type of the same size.
template <class To, class From>
inline __device__ To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs two types of one size");
  To to;
  memcpy((void*)&to, (const void*)&from, sizeof(To));
  return to;
}

}  // namespace mlx::core::cu::metal

// In the global namespace, where CUDA has its half and bfloat: operators are looked for beside their operands' types.
#define METAL_MIXED_OPERATOR(op)                                                                            \
  template <class A, class B, mlx::core::cu::metal::if_mixed<A, B> = 0>                                     \
  inline __device__ mlx::core::cu::metal::common_t<A, B> operator op(A a, B b) {                            \
    return mlx::core::cu::metal::common_t<A, B>(float(a) op float(b));                                      \
  }                                                                                                         \
  template <class A, class B, mlx::core::cu::metal::if_mixed<A, B> = 0>                                     \
  inline __device__ A& operator op##=(A& a, B b) {                                                          \
    return a = A(a op b);                                                                                   \
  }
METAL_MIXED_OPERATOR(+)
METAL_MIXED_OPERATOR(-)
METAL_MIXED_OPERATOR(*)
METAL_MIXED_OPERATOR(/)
#undef METAL_MIXED_OPERATOR

#define METAL_MIXED_COMPARISON(op)                                      \
  template <class A, class B, mlx::core::cu::metal::if_mixed<A, B> = 0> \
  inline __device__ bool operator op(A a, B b) {                        \
    return float(a) op float(b);                                        \
  }
METAL_MIXED_COMPARISON(<)
METAL_MIXED_COMPARISON(>)
METAL_MIXED_COMPARISON(<=)
METAL_MIXED_COMPARISON(>=)
METAL_MIXED_COMPARISON(==)
METAL_MIXED_COMPARISON(!=)
#undef METAL_MIXED_COMPARISON
