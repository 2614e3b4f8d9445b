"""Flash attention for prefill: exact attention, tile by tile, without a matrix of scores in memory (arXiv 2205.14135).

Two kernels with the same contract: the first uses plain arithmetic, the second the matrix unit of the GPU.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal

from .decode_attention import check_attention

_SIMD_WIDTH = 32
_GROUPS = 4
"""SIMD groups per threadgroup. The kernels depend on this number, and on the queries per tile, which are given below."""

_LARGEST_DIM = 128
"""With more, the tiles would not fit into the 32 KB of threadgroup memory."""


def _attention_kernel(name: str) -> Any:
    source = read_metal(Path(__file__).with_name(f"{name}.metal"))
    return metal_kernel(name=name, input_names=["q", "k", "v", "scale"], output_names=["out"], source=source)


_PLAIN = _attention_kernel("flash_attention")
_SIMDGROUP = _attention_kernel("flash_attention_simdgroup")


def flash_attention(q: mx.array, k: mx.array, v: mx.array, scale: float | None = None, causal: bool = True) -> mx.array:
    """softmax(q kᵀ · scale + mask) v for many queries.

    Args:
        q: `(B, H, L, D)`, D a multiple of 32 up to 128; float32, float16 or bfloat16.
        k, v: `(B, KV, S, D)`, of q's dtype. Query head h reads head h // (H / KV).
        scale: 1/√D when None.
        causal: query i is at position S − L + i, and sees the keys up to and including its own; otherwise it sees all of
            them.
    Returns:
        `(B, H, L, D)`, of q's dtype; sums are float32.
    Raises:
        ValueError: if shapes or dtypes do not fit, D is not supported, or L is more than S in causal attention.
    """
    return _launch(_PLAIN, q, k, v, scale, causal, tile=16)


def flash_attention_simdgroup(
    q: mx.array, k: mx.array, v: mx.array, scale: float | None = None, causal: bool = True
) -> mx.array:
    """The same as `flash_attention`, but the two products of a tile are computed with SIMD-group matrices of 8 × 8."""
    return _launch(_SIMDGROUP, q, k, v, scale, causal, tile=32)


def _launch(kernel: Any, q: mx.array, k: mx.array, v: mx.array, scale: float | None, causal: bool, tile: int) -> mx.array:
    """One threadgroup for each tile of queries of each head of each row."""
    check_attention(q, k, v, _LARGEST_DIM)
    batch, heads, length, dim = q.shape
    if causal and length > k.shape[2]:
        raise ValueError(f"{length} queries can't be the last of {k.shape[2]} positions: k must hold the queries' own keys")
    threads = _SIMD_WIDTH * _GROUPS
    (out,) = kernel(
        inputs=[q, k, v, mx.array(dim**-0.5 if scale is None else scale, dtype=mx.float32)],
        template=[("T", q.dtype), ("D", dim), ("CAUSAL", causal)],
        grid=(threads * -(-length // tile), heads, batch),
        threadgroup=(threads, 1, 1),
        output_shapes=[q.shape],
        output_dtypes=[q.dtype],
    )
    return out
