"""Two operations that MLX's Linux CPU backend does slowly, made fast there. On a GPU they are MLX's own.

What the course teaches calls these by name; how they work is worth a look, but no exercise.
"""

import math

import mlx.core as mx

LOG2_E = math.log2(math.e)
ON_CPU = not (mx.metal.is_available() or mx.cuda.is_available())
ROWS = 8
MANY_ROWS = 64


def exp(x: mx.array) -> mx.array:
    """Elementwise e^x in the dtype of `x`; relative error below 1e-5 for |x| < 88 in float32.

    MLX's x86 build has no SIMD exponential: `mx.exp` takes about 14 ns an element and `mx.power` about 6, since it calls the C
    library's `powf`. So e^x is computed as 2^(x log2 e) there; GPU kernels use the same identity, because the hardware has an
    instruction for 2^x and none for e^x.
    """
    return mx.power(2.0, x * LOG2_E) if ON_CPU else mx.exp(x)


def matmul_transposed(x: mx.array, weight: mx.array) -> mx.array:
    """x Wᵀ: `(..., K)` by `(N, K)` gives `(..., N)`.

    OpenBLAS's kernels take 8 rows at a time, and what is left over goes through slower ones: 5 rows take longer than 8. So a
    few rows are filled up to a multiple of 8 with zeros.
    """
    rows = x.size // x.shape[-1]
    missing = -rows % ROWS
    if not ON_CPU or not missing or not 1 < rows < MANY_ROWS:
        return x @ weight.T
    flat = mx.pad(x.reshape(rows, -1), [(0, missing), (0, 0)])
    return (flat @ weight.T)[:rows].reshape(*x.shape[:-1], -1)
