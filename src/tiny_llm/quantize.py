"""Quantized weights: a matrix in groups of small integers, each group with a scale and a bias of its own.

A decode step reads every weight once and does little with it, so what counts is the number of bytes to read. The layout is
MLX's (see `mx.quantize`): its kernels can read what is made here.
"""

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.machine.fast_math import matmul_transposed
from tiny_llm_kit.models.quantized import QuantizedWeight

WORD = 32
SUPPORTED_BITS = (4, 8)
GROUP_SIZES = (32, 64, 128)


def _shifts(bits: int) -> mx.array:
    """How far each value of a word is shifted to the left, `(32 / bits,)`: the first one is in the lowest bits."""
    if bits not in SUPPORTED_BITS:
        raise ValueError(f"{bits} bits are not supported: choose 4 or 8, which fill a word without a rest")
    return mx.arange(0, WORD, bits, dtype=mx.uint32)


@task(week=2, day=2, number=1)
def pack(values: mx.array, bits: int) -> mx.array:
    """Lay small integers side by side into words, along the last axis, the first one in the lowest bits.

    Args:
        values: integers of any dtype, `(..., n)`, from 0 to 2^bits − 1; n is a multiple of 32 / bits.
        bits: 4 or 8.
    Returns:
        uint32 `(..., n · bits / 32)`.
    Raises:
        ValueError: for other bits, values that are not integers or out of range, or an n that leaves a word partly empty.
    """
    raise NotImplementedError("Week 2 Day 2, task 1: pack and unpack. Read book/src/week2-02-quantized-weights.md")


@task(week=2, day=2, number=1)
def unpack(words: mx.array, bits: int) -> mx.array:
    """Unpack words: uint32 `(..., m)` to uint32 values `(..., m · 32 / bits)`.

    Raises:
        ValueError: for bits other than 4 and 8, or words that are not uint32.
    """
    raise NotImplementedError("Week 2 Day 2, task 1: pack and unpack. Read book/src/week2-02-quantized-weights.md")


@task(week=2, day=2, number=2)
def quantize(w: mx.array, group_size: int = 64, bits: int = 4) -> QuantizedWeight:
    """Replace every `group_size` neighbours of a row by integers q, a scale and a bias: w ≈ scale · q + bias.

    In each group bias is the smallest number and scale is (largest − smallest) / (2^bits − 1), both in the dtype of `w`; q is
    the integer from 0 to 2^bits − 1 for which scale · q + bias, with both as they are stored, comes nearest to the number. A
    group of equal numbers comes back exactly.

    `mx.quantize` chooses scale and bias differently: see the chapter.

    Args:
        w: `(N, K)`, floating point, every number finite; K is a multiple of `group_size`.
        group_size: 32, 64 or 128.
        bits: 4 or 8.
    Raises:
        ValueError: if one of these does not hold.
    """
    raise NotImplementedError("Week 2 Day 2, task 2: affine groups. Read book/src/week2-02-quantized-weights.md")


@task(week=2, day=2, number=3)
def dequantize(weight: QuantizedWeight, dtype: mx.Dtype = mx.float32) -> mx.array:
    """The full matrix `(N, K)`: scale · q + bias.

    Args:
        dtype: floating point; scales and biases are converted to it, and the arithmetic is done in it.
    Raises:
        ValueError: for bits other than 4 and 8.
    """
    raise NotImplementedError("Week 2 Day 2, task 3: dequantize. Read book/src/week2-02-quantized-weights.md")


class QuantizedLinear:
    """A linear layer that holds its weight packed, `(N, K)`, and a bias `(N,)`.

    The full matrix exists only while a call is computed: what stays in memory is the packed one.
    """

    def __init__(self, weight: QuantizedWeight, bias: mx.array | None = None) -> None:
        self.weight = weight
        self.bias = bias

    @task(week=2, day=2, number=4)
    def __call__(self, x: mx.array) -> mx.array:
        """x Wᵀ + b: `(..., K)` to `(..., N)`, computed in the dtype of `x`."""
        raise NotImplementedError(
            "Week 2 Day 2, task 4: a linear layer that stays packed. Read book/src/week2-02-quantized-weights.md"
        )
