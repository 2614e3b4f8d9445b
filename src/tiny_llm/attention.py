"""Attention: each query takes a weighted mean of the values, weighted by how well it matches the keys.

Nothing here knows about caches, positions or batches of requests: those arrive as arrays and as a mask.
"""

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.machine.fast_math import exp


@task(week=1, day=1, number=1)
def softmax(x: mx.array, axis: int = -1) -> mx.array:
    """Turn scores into weights that are positive and sum to 1 along `axis`.

    The largest score is subtracted first: the result is the same, and e^x can't overflow. A score of −inf gets weight 0.

    Args:
        x: any shape, floating point.
    Returns:
        Same shape and dtype.
    """
    raise NotImplementedError("Week 1 Day 1, task 1: softmax. Read book/src/week1-01-attention.md")


@task(week=1, day=1, number=2)
def scaled_dot_product_attention(
    q: mx.array, k: mx.array, v: mx.array, scale: float | None = None, mask: mx.array | None = None
) -> mx.array:
    """softmax(q kᵀ · scale + mask) v, the attention of "Attention Is All You Need", section 3.2.1.

    Args:
        q: queries `(..., L, D)`.
        k: keys `(..., S, D)`.
        v: values `(..., S, D)`.
        scale: factor of the scores; 1/√D when None.
        mask: added to the scores, broadcastable to `(..., L, S)`; 0 where attention is allowed, −inf elsewhere.
    Returns:
        `(..., L, D)`.
    """
    raise NotImplementedError("Week 1 Day 1, task 2: scaled dot-product attention. Read book/src/week1-01-attention.md")


@task(week=1, day=1, number=3)
def multi_head_attention(
    x: mx.array,
    w_q: mx.array,
    w_k: mx.array,
    w_v: mx.array,
    w_o: mx.array,
    num_heads: int,
    mask: mx.array | None = None,
) -> mx.array:
    """Self-attention in `num_heads` heads side by side ("Attention Is All You Need", section 3.2.2).

    Args:
        x: `(B, L, E)`.
        w_q, w_k, w_v: `(H·D, E)`; head h owns rows h·D to (h+1)·D − 1. A projection is `x @ w.T`.
        w_o: `(E, H·D)`, from the concatenated outputs of the heads back to E.
        num_heads: H.
        mask: broadcastable to `(B, H, L, L)`, as in `scaled_dot_product_attention`.
    Returns:
        `(B, L, E)`.
    """
    raise NotImplementedError("Week 1 Day 1, task 3: multi-head attention. Read book/src/week1-01-attention.md")


@task(week=1, day=3, number=1)
def causal_mask(length: int, total: int, dtype: mx.Dtype = mx.float32) -> mx.array:
    """No position may see a later one: an additive mask for the last `length` of `total` positions.

    With a cache there are fewer queries than keys: query i is at position total − length + i and may see every key up to
    and including its own.

    Returns:
        `(length, total)`, 0 where attention is allowed, −inf elsewhere.
    Raises:
        ValueError: if `length` is more than `total`.
    """
    raise NotImplementedError("Week 1 Day 3, task 1: the causal mask. Read book/src/week1-03-gqa.md")


@task(week=1, day=3, number=2)
def grouped_query_attention(
    q: mx.array,
    k: mx.array,
    v: mx.array,
    scale: float | None = None,
    mask: mx.array | str | None = None,
) -> mx.array:
    """Attention in which groups of G = H / KV neighbouring query heads share a key/value head (arXiv 2305.13245).

    The keys and values are never repeated in memory: the G heads of a group become G·L rows of one product.

    Args:
        q: `(B, H, L, D)`.
        k, v: `(B, KV, S, D)`; query head h reads key/value head h // G.
        scale: 1/√D when None.
        mask: None, `"causal"` (see `causal_mask`), or an additive array that all heads share: `(L, S)` or `(B, 1, L, S)`.
    Returns:
        `(B, H, L, D)`, in the dtype of `q`, whatever the dtype of the mask.
    Raises:
        ValueError: if H is not a multiple of KV, or the mask has an unknown name.
    """
    raise NotImplementedError("Week 1 Day 3, task 2: grouped-query attention. Read book/src/week1-03-gqa.md")


def _mask_named(name: str, length: int, total: int, dtype: mx.Dtype) -> mx.array | None:
    if name != "causal":
        raise ValueError(f'unknown mask {name!r}: pass "causal", an array or None')
    return causal_mask(length, total, dtype) if length > 1 else None
