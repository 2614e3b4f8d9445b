// Scalars, vectors, limits and constants.
#pragma once
#include "traits.h"

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
typedef signed char int8_t;
typedef short int16_t;
typedef int int32_t;
typedef long int64_t;
typedef uchar uint8_t;
typedef ushort uint16_t;
typedef uint uint32_t;
typedef ulong uint64_t;
typedef __SIZE_TYPE__ size_t;
typedef __PTRDIFF_TYPE__ ptrdiff_t;
typedef long intptr_t;
typedef ulong uintptr_t;
typedef _Float16 bfloat;  // the one other number of 16 bits that clang has: a type of its own, beside half

#define METAL_SIGNED_INTEGERS(MACRO) MACRO(char) MACRO(signed char) MACRO(short) MACRO(int) MACRO(long)
#define METAL_UNSIGNED_INTEGERS(MACRO) MACRO(uchar) MACRO(ushort) MACRO(uint) MACRO(ulong)
#define METAL_FLOATS(MACRO) MACRO(float) MACRO(half) MACRO(bfloat)

namespace metal {

// A vector of OpenCL's: with swizzles and operators, and copied from and to every address space. The answer of a comparison,
// bool4 in Metal, is an int4 here; the checker writes vec<int, N> for vec<bool, N>.
template <class T, int N>
using vec = T __attribute__((ext_vector_type(N)));

// float4(x, y, z, w), which clang has no syntax for: the checker writes make<float4>(x, y, z, w).
template <class V, class... Parts>
constexpr V make(Parts...) {
  return V{};
}

// What `threadgroup T x;` declares: the checker makes x a reference to it.
template <class T>
threadgroup T& variable();

template <class T, int N>
struct packed_vec {
  T at[N];
  packed_vec() = default;
  template <class... Parts>
  packed_vec(Parts...) {}
  operator vec<T, N>() const thread;
  operator vec<T, N>() const device;
  operator vec<T, N>() const threadgroup;
  operator vec<T, N>() const constant;
};

template <class T, size_t N>
struct array {
  T elements[N];
  constexpr thread T& operator[](size_t i) thread { return elements[i]; }
  constexpr const thread T& operator[](size_t i) const thread { return elements[i]; }
  device T& operator[](size_t i) device;
  const device T& operator[](size_t i) const device;
  threadgroup T& operator[](size_t i) threadgroup;
  const threadgroup T& operator[](size_t i) const threadgroup;
  constexpr const constant T& operator[](size_t i) const constant { return elements[i]; }
  static constexpr size_t size() { return N; }
};

template <class T>
using uniform = T;
template <class T>
constexpr T make_uniform(T value) {
  return value;
}

struct os_log {
  constexpr os_log(const constant char*, const constant char*) constant {}
  template <class... Arguments>
  void log(const constant char*, Arguments...) const constant;
  template <class... Arguments>
  void log_debug(const constant char*, Arguments...) const constant;
  template <class... Arguments>
  void log_info(const constant char*, Arguments...) const constant;
  template <class... Arguments>
  void log_error(const constant char*, Arguments...) const constant;
};

template <class T>
struct numeric_limits {
  static constexpr constant bool is_integer = __is_integral(T), is_signed = __is_signed(T);
  static constexpr constant int digits = 8 * sizeof(T) - is_signed;
  static constexpr T max() { return T(~0ul >> (64 - digits)); }
  static constexpr T min() { return is_signed ? T(-max() - 1) : T(0); }
  static constexpr T lowest() { return min(); }
};
#define METAL_FLOAT_LIMITS(T, DIGITS, MAX, MIN, EPSILON)                \
  template <>                                                           \
  struct numeric_limits<T> {                                            \
    static constexpr constant bool is_integer = false, is_signed = true; \
    static constexpr constant int digits = DIGITS;                      \
    static constexpr T max() { return T(MAX); }                         \
    static constexpr T min() { return T(MIN); }                         \
    static constexpr T lowest() { return -max(); }                      \
    static constexpr T epsilon() { return T(EPSILON); }                 \
    static constexpr T infinity() { return T(__builtin_inff()); }       \
    static constexpr T quiet_NaN() { return T(__builtin_nanf("")); }    \
  };
METAL_FLOAT_LIMITS(float, 24, __FLT_MAX__, __FLT_MIN__, __FLT_EPSILON__)
METAL_FLOAT_LIMITS(half, 11, 65504.0f, 6.103515625e-05f, 9.765625e-04f)
METAL_FLOAT_LIMITS(bfloat, 8, 65504.0f, 6.103515625e-05f, 7.8125e-03f)
#undef METAL_FLOAT_LIMITS

}  // namespace metal

#define METAL_VECTOR_NAMES(T)                \
  typedef metal::vec<T, 2> T##2;             \
  typedef metal::vec<T, 3> T##3;             \
  typedef metal::vec<T, 4> T##4;             \
  typedef metal::packed_vec<T, 2> packed_##T##2; \
  typedef metal::packed_vec<T, 3> packed_##T##3; \
  typedef metal::packed_vec<T, 4> packed_##T##4;
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
typedef int2 bool2;
typedef int3 bool3;
typedef int4 bool4;

// The bits of `from`, seen as another type of the same size.
template <class To, class From>
constexpr To as_type(From) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs two types of one size");
  return To{};
}

#define MAXFLOAT __FLT_MAX__
#define FLT_MAX __FLT_MAX__
#define FLT_MIN __FLT_MIN__
#define FLT_EPSILON __FLT_EPSILON__
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define M_E_F 2.71828182845904523536f
#define M_LOG2E_F 1.44269504088896340736f
#define M_LOG10E_F 0.434294481903251827651f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
#define M_PI_2_F 1.57079632679489661923f
#define M_PI_4_F 0.785398163397448309616f
#define M_1_PI_F 0.318309886183790671538f
#define M_2_PI_F 0.636619772367581343076f
#define M_2_SQRTPI_F 1.12837916709551257390f
#define M_SQRT2_F 1.41421356237309504880f
#define M_SQRT1_2_F 0.707106781186547524401f
#define INT_MAX __INT_MAX__
#define INT_MIN (-__INT_MAX__ - 1)
#define UINT_MAX 0xffffffffu
#define CHAR_BIT 8
