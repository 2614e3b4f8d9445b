"""The KV cache of a batch: one slab a layer, a row a slot, written in place.

It knows slots and lengths, not requests.
"""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import Fetched, KvCache, KvCacheBase, Mask


class BatchingKvCache(KvCacheBase):
    """One layer's keys and values for up to `max_active_requests` sequences of up to `max_seq_len` tokens.

    The slabs `(max_active_requests, KV, max_seq_len, D)` are allocated once, when the first request arrives and shapes are
    known, and written in place (they are stored flat, see `_allocate`). A row's content beyond its length is left over from
    earlier owners: it is masked, not cleared.

    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(self, max_active_requests: int, max_seq_len: int) -> None:
        if max_active_requests < 1 or max_seq_len < 1:
            raise ValueError(f"a cache of {max_active_requests} rows of {max_seq_len} tokens: both must be at least 1")
        self.max_active_requests = max_active_requests
        self.max_seq_len = max_seq_len
        self.lengths: dict[int, int] = {}
        self.slabs: list[mx.array] = []  # keys, values

    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        """Copy a prefilled cache, `(1, KV, offset, D)`, into a free slot.

        Raises:
            ValueError: if the slot does not exist or is taken, or the sequence is empty or does not fit.
        """
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        """Free a slot. Nothing is cleared: the next owner overwrites what it needs.

        Raises:
            ValueError: if the slot is free.
        """
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        """Move a request to a free slot, so that the taken slots can be kept together.

        Raises:
            ValueError: if `source` is free, or `target` is taken.
        """
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        """Append L tokens to every taken slot.

        Args:
            keys, values: `(B, KV, L, D)`; row i belongs to the i-th taken slot, in rising order of slots.
            mask_length: number of queries a row; L when None.
            mask: an additive array `(B, 1, L, S)` for these rows; otherwise it is made here, causal in each row.
        Returns:
            keys and values `(B, KV, S, D)` of these rows, S = the length of the longest, and the mask.
        Raises:
            ValueError: if B is not the number of taken slots, or a row is full.
        """
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=2)
    def _append(self, slots: Sequence[int], keys: mx.array, values: mx.array) -> None:
        """Write `(len(slots), KV, L, D)` behind what the slots hold: all rows at once, by their numbers in the flat slabs."""
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    @task(week=2, day=6, number=2)
    def _write_row(self, slot: int, keys: mx.array, values: mx.array) -> None:
        """Write `(1, KV, L, D)` at the beginning of a slot: a run of rows for each head, much faster than row by row."""
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")

    def scrub(self) -> None:
        """Set everything behind the lengths of the slots to 0."""
        lengths = mx.array([self.lengths.get(slot, 0) for slot in range(self.max_active_requests)])
        behind = (mx.arange(self.max_seq_len) >= lengths[:, None])[:, None, :, None]
        self.slabs = [mx.where(behind, 0, slab).reshape(-1, slab.shape[-1]) for slab in self._slabs()]

    def row_lengths(self) -> list[int]:
        """The lengths of the taken slots, in rising order of slots."""
        return [self.lengths[slot] for slot in sorted(self.lengths)]

    def _start(self, slot: int, head: int, heads: int) -> int:
        return (slot * heads + head) * self.max_seq_len

    def _allocate(self, keys: mx.array, values: mx.array) -> None:
        """The slabs are flat, `(max_active_requests · KV · max_seq_len, D)`: a write is then a list of row numbers."""
        if not self.slabs:
            rows = self.max_active_requests * keys.shape[1] * self.max_seq_len
            self.slabs = [mx.zeros((rows, new.shape[3]), dtype=new.dtype) for new in (keys, values)]

    def _slabs(self) -> list[mx.array]:
        """The slabs as `(max_active_requests, KV, max_seq_len, D)`."""
        shape = (self.max_active_requests, -1, self.max_seq_len)
        return [slab.reshape(*shape, slab.shape[-1]) for slab in self.slabs]

    @task(week=2, day=6, number=2)
    def _causal_mask(self, slots: Sequence[int], queries: int, total: int) -> mx.array:
        """`(B, 1, queries, total)`: the last `queries` tokens of each slot may see what stands before them and themselves."""
        raise NotImplementedError("Week 2 Day 6, task 2: the batching KV cache. Read book/src/week2-06-continuous-batching.md")
