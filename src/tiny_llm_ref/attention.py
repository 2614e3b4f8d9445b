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
    weights = exp(x - mx.max(x, axis=axis, keepdims=True))
    return weights / mx.sum(weights, axis=axis, keepdims=True)


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
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = (q * scale) @ k.swapaxes(-1, -2)
    if mask is not None:
        scores = scores + mask
    return softmax(scores, axis=-1) @ v


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
    batch, length, _ = x.shape

    def heads(w: mx.array) -> mx.array:
        return (x @ w.T).reshape(batch, length, num_heads, -1).swapaxes(1, 2)

    out = scaled_dot_product_attention(heads(w_q), heads(w_k), heads(w_v), mask=mask)
    return out.swapaxes(1, 2).reshape(batch, length, -1) @ w_o.T


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
    if length > total:
        raise ValueError(f"{length} queries can't be the last of {total} positions: total must be at least length")
    query = mx.arange(total - length, total)[:, None]
    return mx.where(mx.arange(total) <= query, 0.0, -mx.inf).astype(dtype)


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
    batch, heads, length, dim = q.shape
    kv_heads, total = k.shape[1], k.shape[2]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads can't share {kv_heads} key/value heads evenly")
    if isinstance(mask, str):
        mask = _mask_named(mask, length, total, q.dtype)

    scale = dim**-0.5 if scale is None else scale
    rows = (q * scale).reshape(batch, kv_heads, -1, dim)
    scores = (rows @ k.swapaxes(-1, -2)).reshape(batch, kv_heads, -1, length, total)
    if mask is not None:
        scores = scores + mx.expand_dims(mask, -3).astype(scores.dtype)
    weights = softmax(scores, axis=-1).reshape(batch, kv_heads, -1, total)
    return (weights @ v).reshape(batch, heads, length, dim)


def _mask_named(name: str, length: int, total: int, dtype: mx.Dtype) -> mx.array | None:
    if name != "causal":
        raise ValueError(f'unknown mask {name!r}: pass "causal", an array or None')
    return causal_mask(length, total, dtype) if length > 1 else None
