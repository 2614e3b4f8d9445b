"""Fast versions of what MLX's Linux CPU backend does slowly. On a GPU MLX's own are used.

The course's code calls these by name; how they work is worth a look, but not an exercise.
"""

import math

import mlx.core as mx

LOG2_E = math.log2(math.e)
ON_CPU = not (mx.metal.is_available() or mx.cuda.is_available())
ROWS = 8
MANY_ROWS = 64


def exp(x: mx.array) -> mx.array:
    """Elementwise e^x in the dtype of `x`; relative error below 1e-5 for |x| < 88 in float32.

    MLX's x86 build has no SIMD exponential: `mx.exp` takes about 14 ns per element and `mx.power` about 6, since it calls the C
    library's `powf`. So e^x is computed as 2^(x log2 e) there; GPU kernels use the same identity, because the hardware has an
    instruction for 2^x and none for e^x.
    """
    return mx.power(2.0, x * LOG2_E) if ON_CPU else mx.exp(x)


def matmul_transposed(x: mx.array, weight: mx.array) -> mx.array:
    """x Wᵀ: `(..., K)` by `(N, K)` gives `(..., N)`.

    OpenBLAS's kernels take 8 rows at a time, and what is left over goes through slower ones: 5 rows take longer than 8. So a
    few rows are padded with zeros to a multiple of 8.
    """
    rows = x.size // weight.shape[1]
    missing = -rows % ROWS
    if not missing or not ON_CPU or not 1 < rows < MANY_ROWS:
        return x @ weight.T
    flat = mx.pad(x.reshape(rows, -1), [(0, missing), (0, 0)])
    return (flat @ weight.T)[:rows].reshape(*x.shape[:-1], -1)


def by_columns(weight: mx.array) -> mx.array:
    """The same matrix `(N, K)`, laid out in memory with a contiguous `weight.T`. On a GPU it is left as it is.

    OpenBLAS copies a weight into blocks before it multiplies, which at 8 rows takes longer than the product itself; from this
    layout the copy is faster, and the product with it by about a fifth. A matrix already laid out like this is not copied.
    """
    if not ON_CPU:
        return weight
    columns = mx.contiguous(weight.T).T
    mx.eval(columns)  # now, not in the first step of the first request
    return columns
