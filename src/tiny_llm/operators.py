"""The operations in which a model spends its time, in two versions: plain arrays, and MLX's fused kernels.

A model is given one of them and does not know which. What is not listed here is the same in all. The third version, on the
course's own kernels, lies beside those.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import mlx.core as mx

from .attention import grouped_query_attention
from .linear import Product, linear
from .rms_norm import RMSNorm

Mask = mx.array | str | None
Lengths = mx.array | Sequence[int] | None
Attention = Callable[[mx.array, mx.array, mx.array, float, Mask, Lengths], mx.array]


@dataclass(frozen=True)
class Operators:
    """One version of the operations.

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


ARRAYS = Operators(linear, RMSNorm, array_attention)
MLX = Operators(linear, mlx_norm, mlx_attention)
