"""Attention for decoding: one new token per row of a batch, over caches of different lengths, read in place.

It knows arrays and lengths, not caches: any cache that can expose its slabs can use it.
"""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal

_SIMD_WIDTH = 32
_GROUPS = 16
"""SIMD groups that share a row's keys; half as many where D is above 128, because their results have to fit into threadgroup
memory."""

_KERNEL = metal_kernel(
    name="decode_attention",
    input_names=["q", "k", "v", "lengths", "scale"],
    output_names=["out"],
    source=read_metal(Path(__file__).with_suffix(".metal")),
    ensure_row_contiguous=False,  # a slice of a slab must not be copied: the copy costs more than the attention
)


def decode_attention(
    q: mx.array, k: mx.array, v: mx.array, lengths: mx.array | Sequence[int], scale: float | None = None
) -> mx.array:
    """softmax(q kᵀ · scale) v, where row b attends over its first `lengths[b]` keys and nothing beyond them is read.

    Args:
        q: `(B, H, 1, D)`, D a multiple of 32 up to 256; float32, float16 or bfloat16.
        k, v: `(B, KV, S, D)`, of q's dtype; slices of larger arrays are not copied. Query head h reads head h // (H / KV).
        lengths: `(B,)`, integers from 1 to S. A list is checked; the values of an array are not, since that would wait for it.
        scale: 1/√D when None.
    Returns:
        `(B, H, 1, D)`, of q's dtype; sums are float32.
    Raises:
        ValueError: if shapes or dtypes do not fit, or D is not supported, or a length is known to be out of range.
    """
    check_attention(q, k, v, largest_dim=256)
    batch, heads, queries, dim = q.shape
    kv_heads, total = k.shape[1], k.shape[2]
    if queries != 1:
        raise ValueError(f"{queries} queries per row: decoding has one. flash_attention takes more")
    if not isinstance(lengths, mx.array):
        if wrong := [length for length in lengths if not 1 <= length <= total]:
            raise ValueError(f"length {wrong[0]} is out of range: k holds {total} keys per row, and each row needs one")
        lengths = mx.array(list(lengths), dtype=mx.int32)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths of shape {lengths.shape} for {batch} rows: there must be one per row")
    groups = _GROUPS if dim <= 128 else _GROUPS // 2
    k, v = k.view(mx.uint8), v.view(mx.uint8)  # copies only what is not contiguous along D, which no cache is
    together = next(count for count in (2, 3, 1) if heads // kv_heads % count == 0)
    (out,) = _KERNEL(
        inputs=[q, k, v, lengths, mx.array(dim**-0.5 if scale is None else scale, dtype=mx.float32)],
        template=[("T", q.dtype), ("D", dim), ("HEADS", together), ("GROUPS", groups)],
        grid=(_SIMD_WIDTH * groups * (heads // together), batch, 1),
        threadgroup=(_SIMD_WIDTH * groups, 1, 1),
        output_shapes=[q.shape],
        output_dtypes=[q.dtype],
    )
    return out


def check_attention(q: mx.array, k: mx.array, v: mx.array, largest_dim: int) -> None:
    """Check that q `(B, H, L, D)` and k, v `(B, KV, S, D)` fit each other and the kernels; a ValueError names what does not."""
    if q.ndim != 4 or k.ndim != 4 or k.shape != v.shape or (q.shape[0], q.shape[3]) != (k.shape[0], k.shape[3]):
        raise ValueError(f"q {q.shape}, k {k.shape}, v {v.shape} do not fit: (B, H, L, D) and twice (B, KV, S, D) are needed")
    check_heads(q, k, v, k.shape[1], largest_dim)


def check_heads(q: mx.array, k: mx.array, v: mx.array, kv_heads: int, largest_dim: int | None) -> None:
    """Check that all have one dtype, that the heads of q can share `kv_heads`, and that D is supported up to `largest_dim`."""
    if not q.dtype == k.dtype == v.dtype:
        raise ValueError(f"q, k and v are of {q.dtype}, {k.dtype} and {v.dtype}: they must be of one dtype")
    heads, dim = q.shape[1], q.shape[3]
    if heads % kv_heads:
        raise ValueError(f"{heads} query heads can't share {kv_heads} key/value heads evenly")
    if largest_dim is not None and (dim % 32 or not 32 <= dim <= largest_dim):
        raise ValueError(f"a head dimension of {dim} is not supported: it must be a multiple of 32, at most {largest_dim}")
