from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .block_pool import blocks_for, slot_mapping


@task(week=3, day=4, number=3)
def make_ragged_batch(rows: Sequence[Row], tokens: mx.array, block_size: int) -> RaggedBatch:
    counts = [row.end - row.start for row in rows]
    if sum(counts) != tokens.size:
        raise ValueError(f"the rows have {sum(counts)} tokens, and {tokens.size} are given")
    positions: list[int] = []
    slots: list[int] = []
    fresh: list[int] = []
    keep: list[int] = []
    for row in rows:
        positions += range(row.start, row.end)
        slots += slot_mapping(row.table, row.start, row.end, block_size)
        fresh += _fresh_slots(row, block_size)
        if row.wanted:
            keep.append(len(slots) - 1)
    groups: list[Group] = []
    place = at = 0
    while at < len(rows):
        until = at + 1
        while counts[at] == 1 and until < len(rows) and counts[until] == 1:
            until += 1
        groups.append(_make_group(rows[at:until], place, block_size))
        place, at = groups[-1].places.stop, until
    return RaggedBatch(tokens[None], _indices(positions)[None], _indices(slots), _indices(fresh), groups, _indices(keep))


@task(week=3, day=4, number=3)
def _fresh_slots(row: Row, block_size: int) -> list[int]:
    used = blocks_for(row.end, block_size)
    if row.start > (used - 1) * block_size:
        return []
    return slot_mapping(row.table, row.end, used * block_size, block_size)


@task(week=3, day=4, number=3)
def _make_group(rows: Sequence[Row], place: int, block_size: int) -> Group:
    queries = rows[0].end - rows[0].start
    used = [blocks_for(row.end, block_size) for row in rows]
    width = max(used)
    table = [[row.table[min(i, count - 1)] for i in range(width)] for row, count in zip(rows, used, strict=True)]
    positions = mx.array([row.start for row in rows])[:, None] + mx.arange(queries)
    seen = mx.arange(width * block_size) <= positions[:, None, :, None]
    return Group(
        slice(place, place + len(rows) * queries),
        len(rows),
        queries,
        mx.array(table, dtype=mx.int32),
        _indices([row.end for row in rows]),
        mx.where(seen, 0.0, -mx.inf).astype(mx.float32),
    )
