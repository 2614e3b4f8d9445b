// <metal_uniform>: a value that is the same in all threads. Metal's compiler makes use of the promise, a CPU's cannot.
#pragma once

namespace metal {

template <class T>
using uniform = T;

template <class T>
constexpr uniform<T> make_uniform(T value) {
  return value;
}

}  // namespace metal
