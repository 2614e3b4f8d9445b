// Of a loop that does nothing for ever, an optimizer leaves a jump to itself, which no hook can stop. So every turn of a loop does
// something that the compiler can't see through. (That also keeps it from joining the loads of several turns.)
#pragma once

namespace msl {

inline void opaque() { __asm__ volatile(""); }

constexpr void turn() {
  if (!__builtin_is_constant_evaluated()) opaque();
}

}  // namespace msl

#define for(...) for (__VA_ARGS__) if (::msl::turn(); false) {} else
#define while(...) while (::msl::turn(), (__VA_ARGS__))
