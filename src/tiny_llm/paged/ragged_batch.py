"""What one call of the model computes for sequences of any length: their new tokens in one row, one after another.

Linear layers see a single row of T tokens, so the weights are read once. Only attention has to know where one sequence ends and
the next begins.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby

import mlx.core as mx

from tiny_llm_kit.course import task

from .block_pool import blocks_for, slot_mapping


@dataclass(frozen=True)
class Group:
    """Sequences with the same number of new tokens, which share one call of attention.

    Args:
        places: where their tokens are among the T of the step, sequence by sequence.
        rows: the number of sequences.
        queries: new tokens per sequence.
        table: `(rows, blocks)`, int32; each row is padded with its own last block.
        lengths: `(rows,)`, int32, tokens that each sequence holds after this step.
        mask: `(rows, 1, queries, blocks · block_size)`, float32; 0 where attention is allowed, −inf elsewhere.
    """

    places: slice
    rows: int
    queries: int
    table: mx.array
    lengths: mx.array
    mask: mx.array
    _pieces: list[mx.array] = field(default_factory=list, init=False, repr=False, compare=False)

    def pieces(self, kv_heads: int, num_blocks: int) -> mx.array:
        """`head_pieces` of the table. All layers of a model ask for the same, so it is made once."""
        if not self._pieces:
            self._pieces.append(head_pieces(self.table, kv_heads, num_blocks))
        return self._pieces[0]


def head_pieces(table: mx.array, kv_heads: int, num_blocks: int) -> mx.array:
    """A table `(rows, blocks)` to `(rows, KV, blocks)`: its blocks, counted in a pool in which each head's blocks follow the
    previous head's."""
    return mx.arange(kv_heads)[:, None] * num_blocks + table[:, None]


@dataclass(frozen=True)
class RaggedBatch:
    """One step, made once and shared by all layers.

    Args:
        tokens: `(1, T)`.
        positions: `(1, T)`, the position of each token in its sequence.
        slots: `(T,)`, where the key and value of each token are written; see `slot_mapping`.
        fresh: `(F,)`, slots that are set to 0 first: those after the tokens in a block that this step begins. An earlier owner
            may have left NaN there, which no mask hides.
        groups: all tokens, in order.
        keep: `(R,)`, places among the T tokens whose logits are wanted.
    """

    tokens: mx.array
    positions: mx.array
    slots: mx.array
    fresh: mx.array
    groups: list[Group]
    keep: mx.array


@dataclass(frozen=True)
class Row:
    """A sequence in a step: its tokens `start` … `end` − 1 are computed.

    Args:
        table: its blocks; there may be more than `end` tokens need.
        wanted: whether the logits of its last token are wanted.
    """

    start: int
    end: int
    table: Sequence[int]
    wanted: bool = True


@task(week=3, day=4, number=3)
def make_ragged_batch(rows: Sequence[Row], tokens: mx.array, block_size: int) -> RaggedBatch:
    """Lay out a step.

    Consecutive sequences with one new token each, the decodes, become one group. Every other sequence is a group of its own.

    Args:
        tokens: `(T,)`, the tokens of all rows, one after another.
    Raises:
        ValueError: if a table has no block for one of its row's tokens, or there are more or fewer tokens than the rows have.
    """
    raise NotImplementedError("Week 3 Day 4, task 3: the ragged batch. Read book/src/week3-04-token-budget-scheduler.md")


def _indices(numbers: list[int]) -> mx.array:
    return mx.array(numbers, dtype=mx.int32)


@task(week=3, day=4, number=3)
def _fresh_slots(row: Row, block_size: int) -> list[int]:
    """What follows the row's tokens in its last block, if this step begins that block."""
    raise NotImplementedError("Week 3 Day 4, task 3: the ragged batch. Read book/src/week3-04-token-budget-scheduler.md")


@task(week=3, day=4, number=3)
def _make_group(rows: Sequence[Row], place: int, block_size: int) -> Group:
    raise NotImplementedError("Week 3 Day 4, task 3: the ragged batch. Read book/src/week3-04-token-budget-scheduler.md")
