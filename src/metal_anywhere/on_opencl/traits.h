// <metal_type_traits>. (C++'s own header does not compile as OpenCL.)
#pragma once

namespace metal {

template <class T, T VALUE>
struct integral_constant {
  typedef T value_type;
  static constexpr constant T value = VALUE;
};
template <bool VALUE>
using bool_constant = integral_constant<bool, VALUE>;
using true_type = bool_constant<true>;
using false_type = bool_constant<false>;

template <class T>
struct identity {
  typedef T type;
};
template <class T>
using identity_t = typename identity<T>::type;  // a parameter of this type takes no part in finding T

template <bool, class T = void>
struct enable_if {};
template <class T>
struct enable_if<true, T> : identity<T> {};
template <bool CONDITION, class T = void>
using enable_if_t = typename enable_if<CONDITION, T>::type;

template <bool, class T, class U>
struct conditional : identity<T> {};
template <class T, class U>
struct conditional<false, T, U> : identity<U> {};
template <bool CONDITION, class T, class U>
using conditional_t = typename conditional<CONDITION, T, U>::type;

template <class T>
struct remove_const : identity<T> {};
template <class T>
struct remove_const<const T> : identity<T> {};

template <class T>
struct remove_reference : identity<T> {};
#define METAL_IN_EVERY_SPACE(MACRO) MACRO(device) MACRO(threadgroup) MACRO(thread) MACRO(constant)
#define METAL_REMOVE_REFERENCE(space)                     \
  template <class T>                                      \
  struct remove_reference<space T&> : identity<space T> {};
METAL_IN_EVERY_SPACE(METAL_REMOVE_REFERENCE)
#undef METAL_REMOVE_REFERENCE

template <class T>
struct remove_addrspace : identity<T> {};
#define METAL_REMOVE_SPACE(space)                  \
  template <class T>                               \
  struct remove_addrspace<space T> : identity<T> {};
METAL_IN_EVERY_SPACE(METAL_REMOVE_SPACE)
#undef METAL_REMOVE_SPACE

template <class T>
struct remove_pointer : identity<T> {};
template <class T>
struct is_pointer : false_type {};
#define METAL_POINTER(space)                             \
  template <class T>                                     \
  struct remove_pointer<space T*> : identity<space T> {}; \
  template <class T>                                     \
  struct is_pointer<space T*> : true_type {};
METAL_IN_EVERY_SPACE(METAL_POINTER)
#undef METAL_POINTER

template <class T>
using remove_const_t = typename remove_const<T>::type;
template <class T>
using remove_cv = remove_const<T>;
template <class T>
using remove_cv_t = remove_const_t<T>;
template <class T>
using remove_reference_t = typename remove_reference<T>::type;
template <class T>
using remove_pointer_t = typename remove_pointer<T>::type;
template <class T>
using remove_addrspace_t = typename remove_addrspace<T>::type;
template <class T>
using decay_t = remove_const_t<remove_addrspace_t<remove_reference_t<T>>>;
template <class T>
using decay = identity<decay_t<T>>;

template <class T, class... Types>
constexpr constant bool is_one_of = (__is_same(remove_const_t<T>, Types) || ...);

template <class... Traits>
struct conjunction : bool_constant<(Traits::value && ...)> {};
template <class... Traits>
struct disjunction : bool_constant<(Traits::value || ...)> {};
template <class... Traits>
struct _disjunction : disjunction<Traits...> {};  // Apple's headers define this one for themselves, and MLX uses it
template <class Trait>
struct negation : bool_constant<!Trait::value> {};

#define METAL_TRAIT(name, ...)                      \
  template <class T>                                \
  struct name : bool_constant<bool(__VA_ARGS__)> {};
#define METAL_TRAIT_2(name, ...)                    \
  template <class T, class U>                       \
  struct name : bool_constant<bool(__VA_ARGS__)> {};
METAL_TRAIT_2(is_same, __is_same(T, U))
METAL_TRAIT_2(is_base_of, __is_base_of(T, U))
METAL_TRAIT_2(is_convertible, __is_convertible_to(T, U))
METAL_TRAIT(is_const, __is_const(T))
METAL_TRAIT(is_enum, __is_enum(T))
METAL_TRAIT(is_class, __is_class(T))
METAL_TRAIT(is_integral, __is_integral(T))
METAL_TRAIT(is_floating_point, is_one_of<T, float, half, _Float16>)
METAL_TRAIT(is_arithmetic, __is_integral(T) || is_one_of<T, float, half, _Float16>)
METAL_TRAIT(is_signed, __is_signed(T))
METAL_TRAIT(is_unsigned, __is_unsigned(T))
#undef METAL_TRAIT
#undef METAL_TRAIT_2

template <class T, class U>
constexpr constant bool is_same_v = is_same<T, U>::value;
template <class T, class U>
constexpr constant bool is_base_of_v = is_base_of<T, U>::value;
template <class T, class U>
constexpr constant bool is_convertible_v = is_convertible<T, U>::value;
template <class... Traits>
constexpr constant bool conjunction_v = conjunction<Traits...>::value;
template <class... Traits>
constexpr constant bool disjunction_v = disjunction<Traits...>::value;
template <class Trait>
constexpr constant bool negation_v = negation<Trait>::value;

#define METAL_TRAIT_VALUE(name) \
  template <class T>            \
  constexpr constant bool name##_v = name<T>::value;
METAL_TRAIT_VALUE(is_const)
METAL_TRAIT_VALUE(is_enum)
METAL_TRAIT_VALUE(is_integral)
METAL_TRAIT_VALUE(is_floating_point)
METAL_TRAIT_VALUE(is_arithmetic)
METAL_TRAIT_VALUE(is_pointer)
METAL_TRAIT_VALUE(is_signed)
METAL_TRAIT_VALUE(is_unsigned)
#undef METAL_TRAIT_VALUE

// The integer of the same size, with or without a sign.
template <class T>
using make_unsigned_t = conditional_t<
    sizeof(T) == 1, unsigned char,
    conditional_t<sizeof(T) == 2, unsigned short, conditional_t<sizeof(T) == 4, unsigned int, unsigned long>>>;
template <class T>
using make_signed_t =
    conditional_t<sizeof(T) == 1, signed char, conditional_t<sizeof(T) == 2, short, conditional_t<sizeof(T) == 4, int, long>>>;
template <class T>
using make_unsigned = identity<make_unsigned_t<T>>;
template <class T>
using make_signed = identity<make_signed_t<T>>;

}  // namespace metal
