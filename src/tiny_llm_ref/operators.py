"""The operations in which a model spends its time, in two versions: plain arrays, and MLX's fused kernels.

A model is given one of them and does not know which. What is not listed here is the same in all. The third version, on the
course's own kernels, is next to those kernels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import mlx.core as mx

from tiny_llm_kit.machine.fast_math import ON_CPU

from .attention import grouped_query_attention
from .linear import Product, linear
from .mlp import silu
from .rms_norm import RMSNorm
from .rope import RoPE, token_positions

Mask = mx.array | str | None
Lengths = mx.array | Sequence[int] | None
Attention = Callable[[mx.array, mx.array, mx.array, float, Mask, Lengths], mx.array]


class Rope(Protocol):
    """Rotary positions, in two halves: `rotation` is made once per step, and every layer applies it with `rotate`."""

    def rotation(self, offset: int | mx.array, length: int) -> Any:
        """What `rotate` needs to know about the positions; arguments as in `RoPE.rotation`."""

    def rotate(self, x: mx.array, rotation: Any) -> mx.array:
        """Turn `x` `(B, L, H, D)`, as in `RoPE.rotate`."""


@dataclass(frozen=True)
class Operators:
    """One version of the operations.

    linear: x `(..., K)`, weight `(N, K)`, bias `(N,)` or None, to `(..., N)`.
    make_norm: weight `(D,)` and eps, to the function that normalizes `(..., D)`.
    make_rope: head dimension and base, to the rotary positions of the model.
    silu: x · sigmoid(x), elementwise.
    attention: q `(B, H, L, D)`, k and v `(B, KV, S, D)`, scale, mask, and lengths, to `(B, H, L, D)`. The mask is as in
        `grouped_query_attention`. A cache whose rows differ in length passes their lengths: query i of row b is then at
        position lengths[b] − L + i, and its mask says the same.
    """

    linear: Product
    make_norm: Callable[[mx.array, float], Callable[[mx.array], mx.array]]
    make_rope: Callable[[int, float], Rope]
    silu: Callable[[mx.array], mx.array]
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


class MlxRope:
    """MLX's fused rotation."""

    def __init__(self, head_dim: int, base: float) -> None:
        self.head_dim = head_dim
        self.base = base

    def rotation(self, offset: int | mx.array, length: int) -> mx.array:
        """The positions `(1 or B, length)`: MLX's kernel makes the angles itself."""
        return token_positions(offset, length)

    def rotate(self, x: mx.array, rotation: mx.array) -> mx.array:
        """See `Rope`."""
        batch, length, heads, _ = x.shape
        # The kernel takes an offset per row, so each token becomes a row of its own.
        at = mx.broadcast_to(rotation, (batch, length)).reshape(-1)
        rows = x.reshape(-1, heads, 1, self.head_dim)
        return mx.fast.rope(rows, self.head_dim, traditional=False, base=self.base, scale=1.0, offset=at).reshape(x.shape)


def mlx_silu(x: mx.array) -> mx.array:
    """With MLX's sigmoid."""
    return x * mx.sigmoid(x)


ARRAYS = Operators(linear, RMSNorm, RoPE, silu, array_attention)

# Without a GPU there is no fused rotation: MLX would compute the angles again in every layer.
MLX = Operators(linear, mlx_norm, RoPE if ON_CPU else MlxRope, mlx_silu, mlx_attention)
