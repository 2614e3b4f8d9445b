"""The KV cache of a batch, with rows that stand at the right: the newest tokens of all of them lie in one column.

So a step writes one column, whatever the lengths. In return, a request that is longer than all others needs the others moved.
"""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import SMALLEST, DenseKvCache, Fetched, KvCache, Mask
from .slot_lengths import SharedLengths, SlotLengths


class BatchingKvCache(DenseKvCache):
    """One layer's keys and values: slabs `(rows, KV, room, D)`; the tokens of every row end before column `end`."""

    def __init__(self, max_active_requests: int, max_seq_len: int, shared: SharedLengths | None = None) -> None:
        if max_active_requests < 1 or max_seq_len < 1:
            raise ValueError(f"a cache of {max_active_requests} rows of {max_seq_len} tokens: both must be at least 1")
        self.max_active_requests = max_active_requests
        self.max_seq_len = max_seq_len
        self.slots = SlotLengths({})
        self.slabs: list[mx.array] = []  # keys, values
        self.end = 0

    @property
    def lengths(self) -> dict[int, int]:
        """Tokens of each taken slot."""
        return self.slots.lengths

    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        """Copy a prefilled cache, `(1, KV, offset, D)`, into a free slot."""
        length = prefilled_cache.offset
        if not 0 <= slot_id < self.max_active_requests or slot_id in self.lengths:
            raise ValueError(f"slot {slot_id} does not exist, or is taken")
        if prefilled_cache.keys is None or prefilled_cache.values is None or not 0 < length <= self.max_seq_len:
            raise ValueError(f"{length} tokens: at least one has to be prefilled, and {self.max_seq_len} fit into a slot")
        new = [part[:, :, :length] for part in (prefilled_cache.keys, prefilled_cache.values)]
        if not self.lengths:
            self.end = 0  # nobody is there, so nothing has to be moved
        self._let_end_be(max(self.end, length), new, slot_id + 1)
        self._write(slot_id, new)
        self.slots = SlotLengths({**self.lengths, slot_id: length})

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        """Free a slot."""
        if slot_id not in self.lengths:
            raise ValueError(f"slot {slot_id} is free")
        self.slots = SlotLengths({slot: length for slot, length in self.lengths.items() if slot != slot_id})

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        """Move a request to a free slot."""
        if source not in self.lengths or target in self.lengths or not 0 <= target < self.max_active_requests:
            raise ValueError(f"can't move slot {source} to {target}: taken are {list(self.lengths)}")
        lengths = dict(self.lengths)
        lengths[target] = lengths.pop(source)
        self._let_end_be(self.end, self.slabs, target + 1)
        moved = [mx.contiguous(slab[source : source + 1, :, self.end - self.slots.longest : self.end]) for slab in self.slabs]
        mx.eval(moved)
        self._write(target, moved)
        self.slots = SlotLengths(lengths)

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        """Append L tokens to every taken slot; row i of what is fetched holds its tokens in its last columns."""
        batch, _, count, _ = keys.shape
        if batch != len(self.lengths):
            raise ValueError(f"got {batch} rows of keys for {len(self.lengths)} taken slots")
        total = self.slots.longest + count
        if total > self.max_seq_len:
            raise ValueError(f"a slot holds {total - count} tokens and has no room for {count} of {self.max_seq_len}")
        self._make_room_at_the_end(count)
        rows, end = self.slots.rows, self.end + count
        for slab, new in zip(self.slabs, (keys, values), strict=True):
            slab[rows, :, self.end : end] = new
        self.slots, self.end = self.slots.longer(count), end
        all_keys, all_values = (slab[rows, :, end - total : end] for slab in self.slabs)
        return all_keys, all_values, total, mask

    def row_lengths(self) -> mx.array | None:
        """None: kernels that take lengths would read a row's first columns."""
        return None

    def scrub(self) -> None:
        """Set everything but the tokens of the slots to 0."""
        for i, slab in enumerate(self.slabs):
            rows, _, room, _ = slab.shape
            first = mx.array([self.end - self.lengths.get(slot, 0) for slot in range(rows)])[:, None]
            own = ((mx.arange(room) >= first) & (mx.arange(room) < self.end))[:, None, :, None]
            self.slabs[i] = mx.where(own, slab, 0)

    def _write(self, slot: int, new: Sequence[mx.array]) -> None:
        """Write keys and values `(1, KV, L, D)` so that they end where all rows end."""
        start = mx.array([slot, self.end - new[0].shape[2]])
        self.slabs = [mx.slice_update(slab, part, start, axes=[0, 2]) for slab, part in zip(self.slabs, new, strict=True)]

    def _let_end_be(self, end: int, new: Sequence[mx.array], rows: int) -> None:
        """Move all tokens to the right, so that rows end at `end`, and let there be this many rows."""
        slabs = self.slabs or [mx.zeros((0, part.shape[1], 0, part.shape[3]), dtype=part.dtype) for part in new]
        had_rows, _, room, _ = slabs[0].shape
        shift = end - self.end
        if rows <= had_rows and shift == 0 and end <= room and self.slabs:
            return
        more_rows = max(min(max(rows, 2 * had_rows), self.max_active_requests) - had_rows, 0)
        behind = max(SMALLEST, end, room - shift) - (room if shift == 0 else self.end + shift)
        kept = slabs if shift == 0 else [slab[:, :, : self.end] for slab in slabs]
        self.slabs = [mx.pad(slab, [(0, more_rows), (0, 0), (shift, max(behind, 0)), (0, 0)]) for slab in kept]
        self.end = end

    def _make_room_at_the_end(self, count: int) -> None:
        """When the last column is reached, drop the columns before the longest row, and let the room be twice what is left."""
        room, longest = self.slabs[0].shape[2], self.slots.longest
        if self.end + count <= room:
            return
        behind = max(SMALLEST, longest, count)
        kept = (slab[:, :, self.end - longest : self.end] for slab in self.slabs)
        self.slabs = [mx.pad(slab, [(0, 0), (0, 0), (0, behind), (0, 0)]) for slab in kept]
        self.end = longest
