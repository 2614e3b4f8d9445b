"""The KV cache of a batch: in each layer a slab for keys and one for values, with one row per slot, written in place.

It knows slots and lengths, not requests.
"""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import SMALLEST, DenseKvCache, Fetched, KvCache, Mask
from .slot_lengths import SharedLengths


class BatchingKvCache(DenseKvCache):
    """One layer's keys and values for up to `max_active_requests` sequences of up to `max_seq_len` tokens.

    The slabs `(rows, KV, room, D)` start small and grow with the slots and tokens in use; in between they are written in place.
    What a row holds beyond its length is left over from earlier owners: it is masked, not cleared.

    Args:
        shared: given to all layers of a model: what a step needs is then computed once, not once per layer.
    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(self, max_active_requests: int, max_seq_len: int, shared: SharedLengths | None = None) -> None:
        if max_active_requests < 1 or max_seq_len < 1:
            raise ValueError(f"a cache of {max_active_requests} rows of {max_seq_len} tokens: both must be at least 1")
        self.max_active_requests = max_active_requests
        self.max_seq_len = max_seq_len
        self.shared = shared or SharedLengths()
        self.slots = self.shared.of({})
        self.slabs: list[mx.array] = []  # keys, values

    @property
    def lengths(self) -> dict[int, int]:
        """Tokens of each taken slot."""
        return self.slots.lengths

    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        """Copy a prefilled cache, `(1, KV, offset, D)`, into a free slot.

        Raises:
            ValueError: if the slot does not exist or is taken, or the sequence is empty or does not fit.
        """
        length = prefilled_cache.offset
        if not 0 <= slot_id < self.max_active_requests:
            raise ValueError(f"slot {slot_id} does not exist: the cache has slots 0 to {self.max_active_requests - 1}")
        if slot_id in self.lengths:
            raise ValueError(f"slot {slot_id} is taken: remove its request first")
        if prefilled_cache.keys is None or prefilled_cache.values is None or length == 0:
            raise ValueError("the prefilled cache is empty: prefill the prompt before its request joins the batch")
        if length > self.max_seq_len:
            raise ValueError(f"{length} tokens do not fit into a slot of {self.max_seq_len}: raise max_seq_len")
        new = [part[:, :, :length] for part in (prefilled_cache.keys, prefilled_cache.values)]
        self._make_room(new, slot_id + 1, length)
        self._write_slot(slot_id, new)
        self.slots = self.shared.of({**self.lengths, slot_id: length})

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        """Free a slot. Nothing is cleared: the next owner overwrites what it needs.

        Raises:
            ValueError: if the slot is free.
        """
        if slot_id not in self.lengths:
            raise ValueError(f"slot {slot_id} is free: there is no request to remove")
        self.slots = self.shared.of({slot: length for slot, length in self.lengths.items() if slot != slot_id})

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        """Move a request to a free slot: this keeps the taken slots together.

        All columns that the next step reads are moved, not only the request's tokens: what an earlier owner left in the target
        may be NaN, which no mask hides.

        Raises:
            ValueError: if `source` is free, or `target` is taken or does not exist.
        """
        if source not in self.lengths or target in self.lengths or not 0 <= target < self.max_active_requests:
            raise ValueError(
                f"can't move slot {source} to {target}: taken are {list(self.lengths)} of {self.max_active_requests}"
            )
        lengths = dict(self.lengths)
        lengths[target] = lengths.pop(source)
        self._make_room(self.slabs, target + 1, self.slots.longest)
        _, heads, room, dim = self.slabs[0].shape
        start, size = mx.array([source]), (1, heads, min(self.slots.longest + 1, room), dim)
        moved = [mx.slice(slab, start, axes=[0], slice_size=size) for slab in self.slabs]
        mx.eval(moved)  # awaited: while the copy is still to be made, a write would copy the whole slab
        self._write_slot(target, moved)
        self.slots = self.shared.of(lengths)

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        """Append L tokens to every taken slot; its length grows by L.

        Args:
            keys, values: `(B, KV, L, D)`; row i belongs to the i-th taken slot, in rising order of slots.
            mask: returned unchanged. Rows that are shorter than the longest need an array `(B, 1, L, S)` that hides what lies
                after them, such as `create_batch_mask` makes; without one they attend to whatever is there.
        Returns:
            keys and values `(B, KV, S, D)` of these rows, S = the length of the longest, and the mask.
        Raises:
            ValueError: if B is not the number of taken slots, or a row is full.
        """
        batch, heads, count, _ = keys.shape
        if batch != len(self.lengths):
            raise ValueError(f"got {batch} rows of keys for {len(self.lengths)} taken slots {list(self.lengths)}")
        total = self.slots.longest + count
        if total > self.max_seq_len:
            raise ValueError(f"a slot holds {total - count} tokens and has no room for {count} of {self.max_seq_len}")
        self._make_room([keys, values], 0, total)
        self.slots = self.shared.longer(self.slots, count)
        where = self.slots.last(count, heads)
        for slab, new in zip(self.slabs, (keys, values), strict=True):
            slab[where] = new
        all_keys, all_values = (slab[self.slots.rows, :, :total] for slab in self.slabs)
        return all_keys, all_values, total, mask

    def row_lengths(self) -> mx.array:
        """The lengths of the taken slots `(B,)`, in rising order of slots.

        A kernel that gets them expects each row's tokens in its first columns. A cache that keeps them elsewhere would return
        None: then the mask decides.
        """
        return self.slots.per_row

    def scrub(self) -> None:
        """Set everything beyond the lengths of the slots to 0."""
        for i, slab in enumerate(self.slabs):
            rows, _, room, _ = slab.shape
            lengths = mx.array([self.lengths.get(slot, 0) for slot in range(rows)])
            behind = (mx.arange(room) >= lengths[:, None])[:, None, :, None]
            self.slabs[i] = mx.where(behind, 0, slab)

    def _make_room(self, new: Sequence[mx.array], rows: int, length: int) -> None:
        """Make room for this many rows and columns. What has to grow doubles, which keeps copying rare."""
        if not self.slabs:
            self.slabs = [mx.zeros((0, part.shape[1], 0, part.shape[3]), dtype=part.dtype) for part in new]
        had_rows, _, had_length, _ = self.slabs[0].shape
        if rows <= had_rows and length <= had_length:
            return
        more_rows = min(_doubled(max(had_rows, 1), rows), self.max_active_requests) - had_rows
        more_length = min(_doubled(max(had_length, SMALLEST), length), self.max_seq_len) - had_length
        self.slabs = [mx.pad(slab, [(0, more_rows), (0, 0), (0, more_length), (0, 0)]) for slab in self.slabs]

    def _write_slot(self, slot: int, new: Sequence[mx.array]) -> None:
        """Write keys and values `(1, KV, L, D)` at the beginning of a slot."""
        # With the start as an array MLX writes into the old buffer, even while an earlier step is still running.
        start = mx.array([slot])
        self.slabs = [mx.slice_update(slab, part, start, axes=[0]) for slab, part in zip(self.slabs, new, strict=True)]


def _doubled(size: int, needed: int) -> int:
    while size < needed:
        size *= 2
    return size
