// How a kernel's generated entry point gets its arguments. The runtime includes this file too, so it knows no Metal type.
#pragma once
#include <stdint.h>
#include <type_traits>

namespace msl {

struct Coordinates {
  uint32_t x, y, z;
};

// Who a thread is. The names are those of Metal's attributes.
struct Tid {
  Coordinates dispatch_threads_per_threadgroup;
  Coordinates grid_origin;
  Coordinates grid_size;
  Coordinates thread_position_in_grid;
  Coordinates thread_position_in_threadgroup;
  Coordinates threadgroup_position_in_grid;
  Coordinates threadgroups_per_grid;
  Coordinates threads_per_grid;
  Coordinates threads_per_threadgroup;

  uint32_t dispatch_quadgroups_per_threadgroup;
  uint32_t dispatch_simdgroups_per_threadgroup;
  uint32_t quadgroup_index_in_threadgroup;
  uint32_t quadgroups_per_threadgroup;
  uint32_t simdgroup_index_in_threadgroup;
  uint32_t simdgroups_per_threadgroup;
  uint32_t thread_execution_width;
  uint32_t thread_index_in_quadgroup;
  uint32_t thread_index_in_simdgroup;
  uint32_t thread_index_in_threadgroup;
  uint32_t threads_per_simdgroup;
};

// The argument for a parameter of type `Parameter`. A buffer: a pointer to it, or a reference to the value at its start.
template <class Parameter>
Parameter argument(void* buffer) {
  if constexpr (std::is_reference_v<Parameter>)
    return *(std::remove_reference_t<Parameter>*)buffer;
  else
    return (Parameter)buffer;
}

// An attribute: it may be declared with fewer components (uint2, uint) or a narrower type (ushort3) than it has.
template <class Parameter>
Parameter argument(Coordinates attribute) {
  if constexpr (std::is_constructible_v<Parameter, uint32_t, uint32_t, uint32_t>)
    return Parameter(attribute.x, attribute.y, attribute.z);
  else if constexpr (std::is_constructible_v<Parameter, uint32_t, uint32_t>)
    return Parameter(attribute.x, attribute.y);
  else
    return Parameter(attribute.x);
}
template <class Parameter>
Parameter argument(uint32_t attribute) {
  return Parameter(attribute);
}

// Calls a kernel with a buffer's address or an attribute's value for each of its parameters.
template <class... Parameters, class... Sources>
void call(void (*kernel)(Parameters...), Sources... sources) {
  kernel(argument<Parameters>(sources)...);
}

}  // namespace msl
