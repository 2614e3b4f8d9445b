// Scalar types and constants of the Metal Shading Language, and how its functions are compiled for the CPU.
//
// Only these four standard headers may be included anywhere in the library: a kernel's source turns words such as
// `thread` into macros, and every header that is parsed takes its time.
#pragma once
#include <limits.h>
#include <stddef.h>
#include <stdint.h>
#include <type_traits>

#include "msl_runtime.h"

#define __METAL_VERSION__ 320
#define METAL_FUNC inline

// A kernel is compiled so that each of its accesses to memory calls the runtime. MSL_UNCHECKED exempts a function that moves
// values between the lanes' slots: that is the runtime's own traffic. Such a function and a checked one do not inline into
// each other, except when marked MSL_INLINE.
#if defined(__clang__)
#define MSL_UNCHECKED __attribute__((disable_sanitizer_instrumentation, no_sanitize("undefined", "coverage")))
#else
#define MSL_UNCHECKED __attribute__((no_sanitize("thread", "undefined"), no_sanitize_coverage))
#endif
#define MSL_INLINE __attribute__((always_inline)) inline

typedef unsigned char uchar;
typedef unsigned short ushort;
typedef unsigned int uint;
typedef unsigned long ulong;
#if defined(__aarch64__) && defined(__GNUC__) && !defined(__clang__) && __GNUC__ < 13
typedef __fp16 half;  // all that g++ 12 has there; its arithmetic is float's
#else
typedef _Float16 half;
#endif

constexpr half operator"" h(long double value) { return half(float(value)); }  // 1.5h

// The bits of `from`, seen as another type of the same size.
template <class To, class From>
MSL_INLINE To as_type(From from) {
  static_assert(sizeof(To) == sizeof(From), "as_type needs two types of one size");
  To to;
  __builtin_memcpy((void*)&to, (const void*)&from, sizeof(To));
  return to;
}

// The scalar types that functions such as min are overloaded for. Overloads, not templates: min(1, 2u) is ambiguous in Metal,
// and so it must be here. (`long long` is int64_t on macOS; `signed char` is int8_t everywhere.)
#define MSL_FOR_EACH_SIGNED_INTEGER(MACRO) MACRO(char) MACRO(signed char) MACRO(short) MACRO(int) MACRO(long) MACRO(long long)
#define MSL_FOR_EACH_UNSIGNED_INTEGER(MACRO) MACRO(uchar) MACRO(ushort) MACRO(uint) MACRO(ulong) MACRO(unsigned long long)

#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define M_LOG2E_F 1.44269504088896340736f
#define M_LN2_F 0.693147180559945309417f
#define M_LN10_F 2.30258509299404568402f
#define M_PI_F 3.14159265358979323846f
