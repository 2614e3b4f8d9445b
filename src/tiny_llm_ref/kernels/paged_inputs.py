"""Checks what every form of paged attention is given: a pool of blocks, and for each row a block table and a length.

It looks at shapes, and at numbers only if they are given as lists: looking into an array would mean waiting for it.
"""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from .decode_attention import check_heads

Tables = mx.array | Sequence[Sequence[int]]
Lengths = mx.array | Sequence[int]


def check_paged(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: Tables, lengths: Lengths, largest_dim: int | None = None
) -> tuple[mx.array, mx.array]:
    """Check that these fit each other and the kernels.

    Args:
        q: `(B, H, L, D)`; if `largest_dim` is given, D has to be a multiple of 32 and no larger.
        k_pool, v_pool: `(KV, N, block_size, D)`, of q's dtype.
        tables: `(B, blocks)`, integers; or a list for each row, which may differ in length.
        lengths: `(B,)`, integers from L to blocks · block_size.
    Returns:
        tables `(B, blocks)` and lengths `(B,)` as arrays of integers.
    Raises:
        ValueError: names what does not fit.
    """
    if q.ndim != 4 or k_pool.ndim != 4 or k_pool.shape != v_pool.shape or q.shape[3] != k_pool.shape[3]:
        raise ValueError(
            f"q {q.shape}, k_pool {k_pool.shape}, v_pool {v_pool.shape} do not fit: (B, H, L, D) and twice "
            "(KV, N, block_size, D) are needed"
        )
    check_heads(q, k_pool, v_pool, kv_heads=k_pool.shape[0], largest_dim=largest_dim)
    if not isinstance(tables, mx.array) and not isinstance(lengths, mx.array):
        _check_blocks(tables, lengths, num_blocks=k_pool.shape[1], block_size=k_pool.shape[2])
    tables = _as_array("tables", tables if isinstance(tables, mx.array) else _of_one_width(tables))
    if tables.ndim != 2 or tables.shape[0] != q.shape[0] or tables.shape[1] < 1:
        raise ValueError(
            f"tables of shape {tables.shape} for {q.shape[0]} rows: (B, blocks) is needed, at least one block each"
        )
    if not isinstance(lengths, mx.array):
        _check_lengths(lengths, queries=q.shape[2], room=tables.shape[1] * k_pool.shape[2])
    lengths = _as_array("lengths", lengths)
    if lengths.shape != q.shape[:1]:
        raise ValueError(f"lengths of shape {lengths.shape} for {q.shape[0]} rows: there must be one per row")
    return tables, lengths


def _check_blocks(tables: Sequence[Sequence[int]], lengths: Sequence[int], num_blocks: int, block_size: int) -> None:
    """Check that each table reaches its row's length, and names blocks that are in the pool."""
    for row, (table, length) in enumerate(zip(tables, lengths, strict=False)):
        needed = -(-length // block_size)
        if len(table) < needed:
            raise ValueError(
                f"the table of row {row} is too short: {length} tokens need {needed} blocks of {block_size}, not {len(table)}"
            )
        if wrong := [block for block in table[: max(needed, 0)] if not 0 <= block < num_blocks]:
            raise ValueError(f"block {wrong[0]} in the table of row {row} is not in the pool, which has {num_blocks} blocks")


def _check_lengths(lengths: Sequence[int], queries: int, room: int) -> None:
    for row, length in enumerate(lengths):
        if not queries <= length <= room:
            raise ValueError(
                f"length {length} of row {row} is out of range: it counts the {queries} new tokens, and the tables reach {room}"
            )


def _of_one_width(tables: Sequence[Sequence[int]]) -> list[list[int]]:
    """The tables as one array, padded with block 0, which is never read past a row's length."""
    width = max(map(len, tables), default=0)
    return [[*table, *[0] * (width - len(table))] for table in tables]


def _as_array(name: str, given: mx.array | Sequence[Any]) -> mx.array:
    if not isinstance(given, mx.array):
        return mx.array(list(given), dtype=mx.int32)
    if not mx.issubdtype(given.dtype, mx.integer):
        raise ValueError(f"{name} are of {given.dtype}: they must be integers")
    return given
