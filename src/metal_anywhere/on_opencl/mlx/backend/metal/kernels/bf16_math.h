// In place of MLX's file, which defines the functions of bfloat through the compiler's builtins: metal.h has them.
#pragma once
#include <metal_stdlib>
