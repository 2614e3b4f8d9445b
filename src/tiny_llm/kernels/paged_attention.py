"""Attention over a paged cache, on kernels that walk the block tables and read the pool in place (vLLM, arXiv 2309.06180).

They know a pool, tables and lengths, but not which requests own or share a block.
"""

from pathlib import Path
from typing import Any

import mlx.core as mx

from metal_anywhere import metal_kernel, read_metal
from tiny_llm_kit.course import task

from .paged_inputs import Lengths, Tables, check_paged

_SIMD_WIDTH = 32
_DECODE_GROUPS = 8
_PREFILL_GROUPS = 4
"""SIMD groups per threadgroup. The prefill kernel depends on this number, and on its tile of 32 pairs of query and head."""
_PREFILL_TILE = 32

_LARGEST_DIM = 256
_LARGEST_PREFILL_DIM = 128
"""With more, the tiles would not fit into the 32 KB of threadgroup memory."""

_HEAD_NUMBERS = 512
"""How many numbers of queries a threadgroup of the decode kernel can keep in registers: four heads of 128, or eight of 64."""

MOST_PARTS = 32
LEAST_PART = 256
"""Below this many tokens, a part is not worth the merging."""
ENOUGH_THREADGROUPS = 256
"""With this many, the decode kernel keeps a large GPU busy without a split: about two per core."""


def _kernel(name: str, inputs: list[str], outputs: list[str]) -> Any:
    return metal_kernel(
        name=name,
        input_names=inputs,
        output_names=outputs,
        source=read_metal(Path(__file__).with_name(f"{name}.metal")),
        ensure_row_contiguous=False,  # the pool must not be copied: it holds the tokens of all requests
    )


_PAGED = ["q", "k_pool", "v_pool", "tables", "lengths", "scale"]
_DECODE = _kernel("paged_attention", _PAGED, ["out", "lse"])
_PREFILL = _kernel("paged_attention_prefill", _PAGED, ["out"])
_MERGE = _kernel("paged_attention_merge", ["parts", "lse"], ["out"])


def paged_attention_decode(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    """Attention for one new token per row; a threadgroup walks the whole table of its row, for query heads of one group.

    Args:
        q: `(B, H, 1, D)`, D a multiple of 32 up to 256; float32, float16 or bfloat16. For everything else see
            `paged_attention_arrays`.
    Returns:
        `(B, H, 1, D)`, of q's dtype; sums are float32.
    Raises:
        ValueError: as in `paged_attention_arrays`, and for more than one query per row, or a D that is not supported.
    """
    out, _ = attend_in_parts(q, k_pool, v_pool, tables, lengths, scale, parts=1, dtype=q.dtype)
    return out


def attend_in_parts(
    q: mx.array,
    k_pool: mx.array,
    v_pool: mx.array,
    tables: Tables,
    lengths: Lengths,
    scale: float | None,
    parts: int,
    dtype: mx.Dtype,
) -> tuple[mx.array, mx.array]:
    """The decode kernel, with the blocks of each row divided evenly among `parts` threadgroups for each of its groups of heads.

    Returns:
        out `(B, H, parts, D)`, of `dtype`, attention over the keys of each part alone, and lse `(B, H, parts)`, float32, the
        logarithm of the sum of the exponentials of their scores. A part without keys has 0 and a very low lse, -3.4e38.
    Raises:
        ValueError: as in `paged_attention_decode`.
    """
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths, _LARGEST_DIM)
    batch, heads, queries, dim = q.shape
    if queries != 1:
        raise ValueError(f"{queries} queries per row: decoding has one. paged_attention_prefill takes more")
    per_threadgroup, threadgroups = _share_heads(heads // k_pool.shape[0], dim)
    out, lse = _DECODE(
        inputs=_inputs(q, k_pool, v_pool, tables, lengths, scale),
        template=[
            ("T", q.dtype),
            ("O", dtype),
            ("D", dim),
            ("BS", k_pool.shape[2]),
            ("HEADS", per_threadgroup),
            ("GROUPS", _DECODE_GROUPS),
            ("PARTS", parts),
        ],
        grid=(_SIMD_WIDTH * _DECODE_GROUPS * k_pool.shape[0] * threadgroups, batch, parts),
        threadgroup=(_SIMD_WIDTH * _DECODE_GROUPS, 1, 1),
        output_shapes=[(batch, heads, parts, dim), (batch, heads, parts)],
        output_dtypes=[dtype, mx.float32],
    )
    return out, lse


def _share_heads(group: int, dim: int) -> tuple[int, int]:
    """How many query heads a threadgroup handles together, and how many threadgroups that makes per group of heads."""
    threadgroups = -(-group * dim // _HEAD_NUMBERS)
    return -(-group // threadgroups), threadgroups


def _inputs(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: mx.array, lengths: mx.array, scale: float | None
) -> list[mx.array]:
    """The inputs as the kernels take them. Viewed as bytes, a pool is copied only if the numbers of a key are not
    contiguous."""
    factor = mx.array(q.shape[3] ** -0.5 if scale is None else scale, dtype=mx.float32)
    return [q, k_pool.view(mx.uint8), v_pool.view(mx.uint8), tables, lengths, factor]


def paged_attention_prefill(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    """Causal attention for the last L tokens of each row, such as a chunk of a prompt; their keys are in the pool as well.

    Args:
        q: `(B, H, L, D)`, D a multiple of 32 up to 128; float32, float16 or bfloat16. For everything else see
            `paged_attention_arrays`.
    Returns:
        `(B, H, L, D)`, of q's dtype; sums are float32.
    Raises:
        ValueError: as in `paged_attention_arrays`, and for a D that is not supported.
    """
    tables, lengths = check_paged(q, k_pool, v_pool, tables, lengths, _LARGEST_PREFILL_DIM)
    batch, heads, queries, dim = q.shape
    kv_heads, _, block_size, _ = k_pool.shape
    threads = _SIMD_WIDTH * _PREFILL_GROUPS
    (out,) = _PREFILL(
        inputs=_inputs(q, k_pool, v_pool, tables, lengths, scale),
        template=[("T", q.dtype), ("D", dim), ("BS", block_size)],
        grid=(threads * -(-queries * (heads // kv_heads) // _PREFILL_TILE), kv_heads, batch),
        threadgroup=(threads, 1, 1),
        output_shapes=[q.shape],
        output_dtypes=[q.dtype],
    )
    return out


@task(week=3, day=2, number=4)
def paged_attention_split(
    q: mx.array,
    k_pool: mx.array,
    v_pool: mx.array,
    tables: Tables,
    lengths: Lengths,
    scale: float | None = None,
    parts: int = 8,
) -> mx.array:
    """`paged_attention_decode`, with each row's keys divided among `parts` threadgroups, for long contexts and few rows.

    Each part computes a softmax over its own keys; they are merged as parts of a softmax always are (flash-decoding;
    FlashInfer, arXiv 2501.01005, section 2.2). Write this and `paged_attention_merge.metal`.

    Raises:
        ValueError: as in `paged_attention_decode`, and if `parts` is not from 1 to `MOST_PARTS`.
    """
    raise NotImplementedError(
        "Week 3 Day 2, task 4: long contexts, split and merged. Read book/src/week3-02-paged-attention.md"
    )


@task(week=3, day=2, number=5)
def choose_parts(rows: int, kv_heads: int, tokens: int) -> int:
    """Into how many parts to divide the keys of each row: a power of two, so that few kernels have to be compiled.

    Without a split there is one threadgroup for each key/value head of each row. Parts double while there are fewer than
    `ENOUGH_THREADGROUPS` in all, as long as twice as many parts are not more than `MOST_PARTS` and have `LEAST_PART` tokens
    each.

    Args:
        rows, kv_heads: B and KV.
        tokens: how many fit into the tables. (Lengths may still be on the GPU, and reading them would mean waiting.)
    """
    raise NotImplementedError("Week 3 Day 2, task 5: the kernel that fits. Read book/src/week3-02-paged-attention.md")


@task(week=3, day=2, number=5)
def paged_attention(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, scale: float | None = None
) -> mx.array:
    """Attention over a paged cache, on the kernel that fits: this is what a `PagedKvCache` is given to attend with.

    Several queries per row go to `paged_attention_prefill`. One goes to `paged_attention_split` if `choose_parts` says more
    than one part, and else to `paged_attention_decode`.

    Args:
        q: `(B, H, L, D)`: the last L tokens of each row, D a multiple of 32, up to 256 for L = 1, else up to 128.
        k_pool, v_pool: `(KV, N, block_size, D)`, of q's dtype.
        tables: `(B, blocks)`, whose tails may hold any number.
        lengths: `(B,)`, how many tokens each row holds; query i of row b is at position lengths[b] − L + i.
        scale: 1/√D when None.
    Returns:
        `(B, H, L, D)`, of q's dtype.
    Raises:
        ValueError: for what the chosen kernel refuses; `paged_attention_arrays` does not step in for it.
    """
    raise NotImplementedError("Week 3 Day 2, task 5: the kernel that fits. Read book/src/week3-02-paged-attention.md")
