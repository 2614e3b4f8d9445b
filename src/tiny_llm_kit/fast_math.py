"""The one elementwise function that is slow on Linux CPU, made fast there.

MLX's x86 build has no SIMD exponential: `mx.exp` takes about 14 ns an element and `mx.power` about 6 (it calls the C
library's `powf`), so on that backend e^x is computed as 2^(x log2 e). Flash-attention kernels use the same identity,
because GPUs have an instruction for 2^x and none for e^x.
"""

import math

import mlx.core as mx

LOG2_E = math.log2(math.e)
SLOW_EXP = not (mx.metal.is_available() or mx.cuda.is_available())


def exp(x: mx.array) -> mx.array:
    """Elementwise e^x in the dtype of `x`; relative error below 1e-5 for |x| < 88 in float32."""
    return mx.power(2.0, x * LOG2_E) if SLOW_EXP else mx.exp(x)
