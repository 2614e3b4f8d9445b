"""A step over paged caches as tests want it: which row computes which tokens, in which blocks, worked out with numpy.

The lengths, tables and masks that a batch holds come from here and not from the answer, so that a wrong layout of steps (day 4)
can't hide a wrong cache (day 1), or the other way round.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import mlx.core as mx
import numpy as np

from answer import answer


@dataclass
class Stored:
    """A sequence and where it is: `table` has a block for each `block_size` of its tokens; `done` of them are computed."""

    tokens: list[int]
    table: list[int]
    done: int = 0


@dataclass(frozen=True)
class Span:
    """The tokens `start` … `end` − 1 of a sequence that is in the blocks of `table`."""

    start: int
    end: int
    table: Sequence[int]

    def slots(self, start: int, end: int, block_size: int) -> list[int]:
        return [self.table[at // block_size] * block_size + at % block_size for at in range(start, end)]

    def fresh(self, block_size: int) -> list[int]:
        """What comes after its tokens in the last block, if that is begun here."""
        begin = (self.end - 1) // block_size * block_size
        return self.slots(self.end, begin + block_size, block_size) if begin >= self.start else []


def make_batch(spans: Sequence[Span], block_size: int, tokens: Sequence[int] = ()) -> Any:
    """A `RaggedBatch`. Neighbours with one new token are a group; any other is a group of its own."""
    groups, place = [], 0
    for together in _grouped(spans):
        group = _group(together, place, block_size)
        groups.append(group)
        place = group.places.stop
    positions = [at for span in spans for at in range(span.start, span.end)]
    ends = np.cumsum([span.end - span.start for span in spans]) - 1
    return answer.RaggedBatch(
        tokens=mx.array([list(tokens) or [0] * len(positions)]),
        positions=mx.array([positions]),
        slots=mx.array([slot for span in spans for slot in span.slots(span.start, span.end, block_size)]),
        fresh=mx.array([slot for span in spans for slot in span.fresh(block_size)], dtype=mx.int32),
        groups=groups,
        keep=mx.array(ends),
    )


def _grouped(spans: Sequence[Span]) -> list[list[Span]]:
    groups: list[list[Span]] = []
    for span in spans:
        if groups and all(one.end - one.start == 1 for one in (span, *groups[-1])):
            groups[-1].append(span)
        else:
            groups.append([span])
    return groups


def _group(spans: Sequence[Span], place: int, block_size: int) -> Any:
    queries = spans[0].end - spans[0].start
    used = [list(span.table[: -(-span.end // block_size)]) for span in spans]
    width = max(map(len, used))
    starts = np.array([span.start for span in spans]).reshape(-1, 1, 1, 1)
    seen = np.arange(width * block_size) <= starts + np.arange(queries)[:, None]
    return answer.Group(
        places=slice(place, place + queries * len(spans)),
        rows=len(spans),
        queries=queries,
        table=mx.array([blocks + blocks[-1:] * (width - len(blocks)) for blocks in used], dtype=mx.int32),
        lengths=mx.array([span.end for span in spans], dtype=mx.int32),
        mask=mx.array(np.where(seen, 0.0, -np.inf), dtype=mx.float32),
    )


def attend_once() -> None:
    """One token attends over itself: a test that begins with this fails at the stub of day 1, and not in what comes before."""
    cache = answer.PagedKvCache(1, 1)
    cache.batch = make_batch([Span(0, 1, [0])], 1)
    q = mx.ones((1, 1, 1, 2))
    out = cache.attend(q, q, 3 * q, 0.5)
    assert mx.allclose(out, 3 * q), f"a token that attends over itself alone gets its own value, 3, not {out.tolist()}"


@dataclass
class Paged:
    """A model over paged caches of its own, and the sequences that it computes, by name: tests without an engine step it.

    `paged_attention` is handed to the caches.
    """

    model: Any
    num_blocks: int
    block_size: int
    paged_attention: Any = None
    sequences: dict[str, Stored] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.caches = [answer.PagedKvCache(self.num_blocks, self.block_size, self.paged_attention) for _ in self.model.blocks]

    def add(self, name: str, tokens: Sequence[int], table: Sequence[int], done: int = 0) -> None:
        self.sequences[name] = Stored(list(tokens), list(table), done)

    def step(self, counts: Mapping[str, int]) -> dict[str, mx.array]:
        """One call that computes this many further tokens of each; for each, the logits `(V,)` of the last of them."""
        rows = [self.sequences[name] for name in counts]
        spans = [Span(row.done, row.done + count, row.table) for row, count in zip(rows, counts.values(), strict=True)]
        tokens = [token for row, span in zip(rows, spans, strict=True) for token in row.tokens[span.start : span.end]]
        batch = make_batch(spans, self.block_size, tokens)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, batch.keep)[0]
        for row, span in zip(rows, spans, strict=True):
            row.done = span.end
        return dict(zip(counts, logits, strict=True))
