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
    shifts = _shifts(bits)
    if not mx.issubdtype(values.dtype, mx.integer):
        raise ValueError(f"only integers can be packed, got {values.dtype}: round first")
    if values.shape[-1] % shifts.size:
        raise ValueError(f"{values.shape[-1]} values of {bits} bits do not fill words: give a multiple of {shifts.size}")
    for extreme in (int(values.min()), int(values.max())):
        if not 0 <= extreme < 2**bits:
            raise ValueError(f"{extreme} does not fit into {bits} bits: values go from 0 to {2**bits - 1}")
    fields = values.astype(mx.uint32).reshape(*values.shape[:-1], -1, shifts.size)
    return (fields << shifts).sum(axis=-1)  # no two fields share a bit, so a sum is an "or"


@task(week=2, day=2, number=1)
def unpack(words: mx.array, bits: int) -> mx.array:
    """Unpack words: uint32 `(..., m)` to uint32 values `(..., m · 32 / bits)`.

    Raises:
        ValueError: for bits other than 4 and 8, or words that are not uint32.
    """
    shifts = _shifts(bits)
    if words.dtype != mx.uint32:
        raise ValueError(f"packed words must be uint32, got {words.dtype}")
    return ((words[..., None] >> shifts) & (2**bits - 1)).flatten(-2)


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
    if bits not in SUPPORTED_BITS or group_size not in GROUP_SIZES:
        raise ValueError(f"{bits} bits in groups of {group_size} are not supported: 4 or 8 bits, groups of {GROUP_SIZES}")
    if w.ndim != 2 or not mx.issubdtype(w.dtype, mx.floating):
        raise ValueError(f"only a matrix of floating point numbers can be quantized, got {w.dtype} {w.shape}")
    if w.shape[1] % group_size:
        raise ValueError(f"rows of {w.shape[1]} can't be cut into groups of {group_size}")
    groups = w.astype(mx.float32).reshape(w.shape[0], -1, group_size)
    low, high = groups.min(axis=-1), groups.max(axis=-1)
    scales = ((high - low) / (2**bits - 1)).astype(w.dtype)
    biases = low.astype(w.dtype)
    if not mx.isfinite(scales).all():
        raise ValueError("w holds NaN, infinity, or a group whose range is too wide for its dtype: only finite numbers fit")
    step = mx.where(scales == 0, 1, scales).astype(mx.float32)
    q = mx.round((groups - biases[..., None]) / step[..., None])
    q = mx.clip(q, 0, 2**bits - 1)  # in half precision the scale may be rounded down, and the largest q is then too large
    return QuantizedWeight(pack(q.astype(mx.uint32).flatten(-2), bits), scales, biases, group_size, bits)


@task(week=2, day=2, number=3)
def dequantize(weight: QuantizedWeight, dtype: mx.Dtype = mx.float32) -> mx.array:
    """The full matrix `(N, K)`: scale · q + bias.

    Args:
        dtype: floating point; scales and biases are converted to it, and the arithmetic is done in it.
    Raises:
        ValueError: for bits other than 4 and 8.
    """
    q = unpack(weight.weight, weight.bits).astype(dtype)
    groups = q.reshape(*weight.scales.shape, weight.group_size)
    return (groups * weight.scales.astype(dtype)[..., None] + weight.biases.astype(dtype)[..., None]).flatten(-2)


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
        y = matmul_transposed(x, dequantize(self.weight, x.dtype))
        return y if self.bias is None else y + self.bias
