from collections.abc import Sequence

import mlx.core as mx
import numpy as np


def make_ragged_batch(rows: Sequence[Row], tokens: mx.array, block_size: int) -> RaggedBatch:
    counts = np.array([row.end - row.start for row in rows], dtype=np.int32)
    ends = np.cumsum(counts)
    if ends[-1] != tokens.shape[0]:
        raise ValueError(f"{ends[-1]} tokens are wanted, {tokens.shape[0]} given")
    if any(len(row.table) * block_size < row.end for row in rows):
        raise ValueError("a table is too short")
    positions = np.concatenate([np.arange(row.start, row.end) for row in rows])
    slots, fresh = [], []
    for row in rows:
        table = np.array(row.table)
        at = np.arange(row.start, row.end)
        slots.append(table[at // block_size] * block_size + at % block_size)
        fresh.append((table[at[at % block_size == 0] // block_size, None] * block_size + np.arange(block_size)).ravel())
    groups, first = [], 0
    while first < len(rows):
        last = first + 1
        while last < len(rows) and counts[first] == counts[last] == 1:
            last += 1
        groups.append(_group(rows[first:last], int(ends[first] - counts[first]), block_size))
        first = last
    return RaggedBatch(
        tokens.reshape(1, -1),
        mx.array(positions[None].astype(np.int32)),
        mx.array(np.concatenate(slots).astype(np.int32)),
        mx.array(np.concatenate(fresh).astype(np.int32)),
        groups,
        mx.array((ends - 1)[[row.wanted for row in rows]].astype(np.int32)),
    )


def _group(rows: Sequence[Row], place: int, block_size: int) -> Group:
    queries = rows[0].end - rows[0].start
    lengths = np.array([row.end for row in rows], dtype=np.int32)
    last = (lengths - 1) // block_size
    table = np.array([[row.table[min(at, end)] for at in range(last.max() + 1)] for row, end in zip(rows, last, strict=True)])
    seen = np.arange(table.shape[1] * block_size) < (lengths[:, None] - queries + 1 + np.arange(queries))[:, None, :, None]
    return Group(
        slice(place, place + queries * len(rows)),
        len(rows),
        queries,
        mx.array(table.astype(np.int32)),
        mx.array(lengths),
        mx.array(np.where(seen, 0, -np.inf).astype(np.float32)),
    )
