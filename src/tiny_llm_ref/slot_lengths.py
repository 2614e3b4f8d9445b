"""Which slots of a batch are taken, how many tokens each holds, and where the tokens of a step go.

All layers of a model hold the same tokens, so this is the same for all of them, and computed once per step.
"""

from collections.abc import Mapping
from functools import cached_property

import mlx.core as mx

from tiny_llm_kit.course import task

Places = tuple[mx.array, mx.array, mx.array]


class SlotLengths:
    """How many tokens each taken slot holds. It is immutable, so what follows from it is computed once and kept."""

    def __init__(self, lengths: Mapping[int, int]) -> None:
        self.lengths = dict(sorted(lengths.items()))
        self.longest = max(lengths.values(), default=0)
        self._last: dict[tuple[int, int], Places] = {}
        self._longer: dict[int, SlotLengths] = {}

    @cached_property
    def per_row(self) -> mx.array:
        """Tokens of each taken slot, int32 `(B,)`, in rising order of slots."""
        return mx.array(list(self.lengths.values()), dtype=mx.int32)

    @cached_property
    @task(week=2, day=6, number=2)
    def rows(self) -> slice | mx.array:
        """An index of the taken slots, in rising order: a slice, which costs nothing, unless there are gaps between them."""
        slots = list(self.lengths)
        return slice(len(slots)) if slots[-1] == len(slots) - 1 else mx.array(slots)

    def longer(self, count: int) -> "SlotLengths":
        """The lengths after each taken slot has received `count` more tokens. Every layer that asks gets the same object."""
        if count not in self._longer:
            self._longer[count] = SlotLengths({slot: length + count for slot, length in self.lengths.items()})
        return self._longer[count]

    def last(self, count: int, heads: int) -> Places:
        """`places`, computed once."""
        if (count, heads) not in self._last:
            self._last[count, heads] = self.places(count, heads)
        return self._last[count, heads]

    @task(week=2, day=6, number=2)
    def places(self, count: int, heads: int) -> Places:
        """Where the last `count` tokens of each taken slot are: indices (slot, head, position), each `(B, heads, count)`.

        For the lengths after an append of `count` tokens, these are the new ones.
        """
        slots = mx.array(list(self.lengths))[:, None, None]
        positions = self.per_row[:, None, None] - count + mx.arange(count)
        slots, head, positions = mx.broadcast_arrays(slots, mx.arange(heads)[:, None], positions)
        return slots, head, positions


class SharedLengths:
    """Gives the layers of a model, which all reach the same lengths, the same `SlotLengths`.

    The first layer that gets there makes a new object, and the others find it. Nothing older is kept.
    """

    def __init__(self) -> None:
        self.latest = SlotLengths({})

    def of(self, lengths: Mapping[int, int]) -> SlotLengths:
        """The lengths after a request has joined, left or moved."""
        if lengths != self.latest.lengths:
            self.latest = SlotLengths(lengths)
        return self.latest

    def longer(self, slots: SlotLengths, count: int) -> SlotLengths:
        """The lengths after every taken slot of `slots` has received `count` more tokens."""
        self.latest = slots.longer(count)
        return self.latest
