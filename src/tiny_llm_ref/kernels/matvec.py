"""Quantized matrix-vector products y = x Wᵀ, in three steps towards the speed at which memory can be read.

Decoding multiplies one row of activations by every matrix of the model, so it takes as long as reading them takes. The kernels
accept any number of rows, but read the matrix again for each: they are made for one row, or a few.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal
from tiny_llm_kit.course import task
from tiny_llm_kit.models.quantized import QuantizedWeight

_SIMD_WIDTH = 32
_ROWS = 4
"""Rows of W that a SIMD group of `matvec_vector` works on: each number of x that it reads is used this many times."""

_BITS = (4, 8)
_DTYPES = (mx.float32, mx.float16, mx.bfloat16)


def _matvec_kernel(name: str) -> Any:
    source = read_metal(Path(__file__).parent / f"{name}.metal")
    return metal_kernel(name=name, input_names=["x", "w", "scales", "biases"], output_names=["out"], source=source)


_THREAD = _matvec_kernel("matvec_thread")
_SIMD = _matvec_kernel("matvec_simd")
_VECTOR = _matvec_kernel("matvec_vector")


@task(week=2, day=3, number=2)
def matvec_thread(x: mx.array, weight: QuantizedWeight) -> mx.array:
    """x Wᵀ, with one thread per number of the result. Write this and `matvec_thread.metal`.

    Args:
        x: `(..., K)`, float32, float16 or bfloat16.
        weight: `(N, K)`, in 4 or 8 bits.
    Returns:
        `(..., N)`, of x's dtype, summed in float32.
    Raises:
        ValueError: if x has a different K or dtype, or the weight a different number of bits.
    """
    N, K = weight.shape
    return _launch(_THREAD, x, weight, grid=(N, x.size // K, 1), threadgroup=(64, 1, 1))


@task(week=2, day=3, number=3)
def matvec_simd(x: mx.array, weight: QuantizedWeight) -> mx.array:
    """The same, with the 32 lanes of a SIMD group for each number of the result. Write this and `matvec_simd.metal`."""
    N, K = weight.shape
    return _launch(_SIMD, x, weight, grid=(_SIMD_WIDTH * N, x.size // K, 1), threadgroup=(2 * _SIMD_WIDTH, 1, 1))


@task(week=2, day=3, number=4)
def matvec_vector(x: mx.array, weight: QuantizedWeight) -> mx.array:
    """The same, with loads of 16 bytes, and one SIMD group for every `_ROWS` rows of W. Write this and `matvec_vector.metal`.

    x has to start at a multiple of 16 bytes in memory, as an array with memory of its own does, and a slice of whole rows.
    W has 8 words or more: MLX would put fewer into constant memory, and the kernel looks for them in device memory.
    """
    N, K = weight.shape
    grid = (_SIMD_WIDTH * -(-N // _ROWS), x.size // K, 1)
    return _launch(_VECTOR, x, weight, grid, threadgroup=(2 * _SIMD_WIDTH, 1, 1), ROWS=_ROWS)


def _launch(
    kernel: Any,
    x: mx.array,
    weight: QuantizedWeight,
    grid: tuple[int, int, int],
    threadgroup: tuple[int, int, int],
    **constants: int,
) -> mx.array:
    """Runs a kernel over the rows of x. It knows T (x's dtype), BITS, GROUP_SIZE, and the `constants` by their names."""
    N, K = weight.shape
    if x.shape[-1:] != (K,):
        raise ValueError(f"x of shape {x.shape} does not fit a weight of shape ({N}, {K}): its last axis must be {K}")
    if x.dtype not in _DTYPES:
        raise ValueError(f"x is of {x.dtype}: the kernels take {', '.join(map(str, _DTYPES))}")
    if weight.bits not in _BITS:
        raise ValueError(f"the weight has {weight.bits} bits: the kernels know {' and '.join(map(str, _BITS))}")
    if x.size == 0:  # a grid can't be empty
        return mx.zeros((*x.shape[:-1], N), dtype=x.dtype)
    rows = x.reshape(-1, K)
    (out,) = kernel(
        inputs=[rows, weight.weight, weight.scales, weight.biases],
        template=[("T", x.dtype), ("BITS", weight.bits), ("GROUP_SIZE", weight.group_size), *constants.items()],
        grid=grid,
        threadgroup=threadgroup,
        output_shapes=[(rows.shape[0], N)],
        output_dtypes=[x.dtype],
    )
    return out.reshape(*x.shape[:-1], N)
