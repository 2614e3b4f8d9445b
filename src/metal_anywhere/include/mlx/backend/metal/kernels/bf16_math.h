// In place of MLX's file, which defines the functions of bfloat through the compiler's builtins: metal_stdlib has them here.
#pragma once
#include <metal_stdlib>
