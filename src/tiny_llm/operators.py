"""The operations in which a model spends its time, in three versions: plain arrays, MLX's fused kernels, and the course's own.

A model is given one of them and does not know which. What is not listed here is the same in all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.models.quantized import QuantizedWeight

from .attention import grouped_query_attention
from .kernels.decode_attention import decode_attention
from .kernels.flash_attention import flash_attention_simdgroup
from .kernels.matvec import matvec_vector
from .kernels.rms_norm import fused_rms_norm
from .linear import Product, linear
from .quantize import dequantize
from .rms_norm import RMSNorm

Mask = mx.array | str | None
Lengths = Sequence[int] | None
Attention = Callable[[mx.array, mx.array, mx.array, float, Mask, Lengths], mx.array]

FEW_ROWS = 8
"""Up to so many rows a product is bound by reading the weights, and the kernel for vectors does it row by row."""


@dataclass(frozen=True)
class Operators:
    """One version of the operations; `OPERATORS` has them by name.

    linear: x `(..., K)`, weight `(N, K)`, bias `(N,)` or None, to `(..., N)`.
    make_norm: weight `(D,)` and eps to the function that normalizes `(..., D)`.
    attention: q `(B, H, L, D)`, k and v `(B, KV, S, D)`, scale, mask, and lengths, to `(B, H, L, D)`. The mask is as in
        `grouped_query_attention`. A cache whose rows differ in length says so: query i of row b then stands at position
        lengths[b] − L + i, which is all that its mask says, too.
    """

    linear: Product
    make_norm: Callable[[mx.array, float], Callable[[mx.array], mx.array]]
    attention: Attention


def array_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    """Attention as week 1 wrote it; the mask says enough."""
    return grouped_query_attention(q, k, v, scale, mask)


def mlx_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    """MLX's fused attention."""
    if isinstance(mask, mx.array):
        mask = mask.astype(q.dtype)
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=scale, mask=mask)


def mlx_norm(weight: mx.array, eps: float) -> Callable[[mx.array], mx.array]:
    """MLX's fused RMSNorm."""
    return partial(mx.fast.rms_norm, weight=weight, eps=eps)


@task(week=2, day=4, number=6)
def kernel_linear(x: mx.array, weight: mx.array | QuantizedWeight, bias: mx.array | None = None) -> mx.array:
    """`matvec_vector` for up to `FEW_ROWS` rows of x; with more, packed weights are unpacked and multiplied as a matrix.

    Shapes as in `linear`, which does what is not packed.
    """
    raise NotImplementedError("Week 2 Day 4, task 6: the model on the kernels. Read book/src/week2-04-flash-attention.md")


def kernel_norm(weight: mx.array, eps: float) -> Callable[[mx.array], mx.array]:
    """`fused_rms_norm`."""
    return partial(fused_rms_norm, weight=weight, eps=eps)


@task(week=2, day=4, number=6)
def kernel_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    """The kernel that fits: one query a row is decoding, more of them, causal or free, are flash attention.

    What neither knows, several queries under an array of a mask, is left to `grouped_query_attention`.
    """
    raise NotImplementedError("Week 2 Day 4, task 6: the model on the kernels. Read book/src/week2-04-flash-attention.md")


ARRAYS = Operators(linear, RMSNorm, array_attention)
MLX = Operators(linear, mlx_norm, mlx_attention)
COURSE = Operators(kernel_linear, kernel_norm, kernel_attention)

OPERATORS = {"arrays": ARRAYS, "mlx": MLX, "course": COURSE}
