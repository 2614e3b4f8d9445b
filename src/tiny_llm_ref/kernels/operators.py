"""The model's operations on the course's own kernels, and all versions by name."""

from collections.abc import Callable
from functools import partial

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.models.quantized import QuantizedWeight

from ..attention import grouped_query_attention
from ..linear import linear
from ..mlp import silu
from ..operators import ARRAYS, MLX, Lengths, Mask, Operators
from ..quantize import dequantize
from ..rope import RoPE
from .decode_attention import decode_attention
from .flash_attention import flash_attention_simdgroup
from .matvec import matvec_vector
from .rms_norm import fused_rms_norm

FEW_ROWS = 8
"""With up to this many rows, a product is bound by reading the weights, and the kernel for vectors computes it row by row."""


@task(week=2, day=4, number=6)
def kernel_linear(x: mx.array, weight: mx.array | QuantizedWeight, bias: mx.array | None = None) -> mx.array:
    """`matvec_vector` for up to `FEW_ROWS` rows of x; with more, packed weights are unpacked and multiplied as a matrix.

    Rows are counted over all axes of x but the last. Weights that are not packed go to `linear`.

    Args:
        x: `(..., K)`.
        weight: `(N, K)`; packed weights are unpacked to x's dtype.
        bias: `(N,)`, added to the product.
    Returns:
        `(..., N)`; of x's dtype if the weights are packed.
    """
    if not isinstance(weight, QuantizedWeight):
        return linear(x, weight, bias)
    rows = x.size // x.shape[-1]
    y = matvec_vector(x, weight) if rows <= FEW_ROWS else x @ dequantize(weight, x.dtype).T
    return y if bias is None else y + bias


def kernel_norm(weight: mx.array, eps: float) -> Callable[[mx.array], mx.array]:
    """`fused_rms_norm`."""
    return partial(fused_rms_norm, weight=weight, eps=eps)


@task(week=2, day=4, number=6)
def kernel_attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask, lengths: Lengths = None) -> mx.array:
    """`decode_attention` for one query per row, `flash_attention_simdgroup` for several that are causal or see all keys.

    Neither kernel reads a mask array: calls with one go to `grouped_query_attention`. But with one query per row and `lengths`,
    which say the same as the mask, the mask is ignored.

    Args:
        q: `(B, H, L, D)`.
        k, v: `(B, KV, S, D)`, of q's dtype.
        scale: factor of the scores.
        mask: as in `grouped_query_attention`.
        lengths: how many keys each row has, `(B,)`, if the rows differ; None: S in every row.
    Returns:
        `(B, H, L, D)`.
    Raises:
        ValueError: for what the chosen kernel refuses, such as D = 48; the formula does not step in for it.
    """
    batch, _, length, _ = q.shape
    if length == 1 and (lengths is not None or not isinstance(mask, mx.array)):
        return decode_attention(q, k, v, [k.shape[2]] * batch if lengths is None else lengths, scale)
    if isinstance(mask, mx.array):
        return grouped_query_attention(q, k, v, scale, mask)
    return flash_attention_simdgroup(q, k, v, scale, causal=mask == "causal")


COURSE = Operators(kernel_linear, kernel_norm, RoPE, silu, kernel_attention)

OPERATORS = {"arrays": ARRAYS, "mlx": MLX, "course": COURSE}
