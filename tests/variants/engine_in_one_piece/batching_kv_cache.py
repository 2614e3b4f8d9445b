"""Slabs of their full size, and a write for each row."""

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import Fetched, KvCache, Mask


class BatchingKvCache:
    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        length = prefilled_cache.offset
        if slot_id not in range(self.max_active_requests) or slot_id in self.lengths:
            raise ValueError(f"slot {slot_id} is no free slot of {self.max_active_requests}")
        if length not in range(1, self.max_seq_len + 1):
            raise ValueError(f"a sequence of {length} tokens is empty or does not fit into {self.max_seq_len}")
        both = (prefilled_cache.keys[:, :, :length], prefilled_cache.values[:, :, :length])
        self._begin(both)
        for number, part in enumerate(both):
            self._write(number, part, slot_id, 0)
        self.slots = self.shared.of(self.lengths | {slot_id: length})

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        if slot_id not in self.lengths:
            raise ValueError(f"slot {slot_id} is free already")
        lengths = dict(self.lengths)
        del lengths[slot_id]
        self.slots = self.shared.of(lengths)

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        if source not in self.lengths:
            raise ValueError(f"slot {source} is free: there is nobody to move")
        if target in self.lengths or target not in range(self.max_active_requests):
            raise ValueError(f"slot {target} is taken or does not exist")
        lengths = dict(self.lengths)
        seen = max(lengths.values()) + 1
        lengths[target] = lengths.pop(source)
        rows = [mx.contiguous(slab[source : source + 1, :, :seen]) for slab in self.slabs]
        mx.eval(rows)
        for number, row in enumerate(rows):
            self._write(number, row, target, 0)
        self.slots = self.shared.of(lengths)

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        count = keys.shape[2]
        if keys.shape[0] != len(self.lengths):
            raise ValueError(f"{len(self.lengths)} slots are taken, and there are {keys.shape[0]} rows")
        longest = max(self.lengths.values(), default=0) + count
        if longest > self.max_seq_len:
            raise ValueError(f"a row would have {longest} tokens, and {self.max_seq_len} fit")
        for number, new in enumerate((keys, values)):
            for row, (slot, length) in enumerate(self.lengths.items()):
                self._write(number, new[row : row + 1], slot, length)
        self.slots = self.shared.longer(self.slots, count)
        rows = list(self.lengths)
        fetched = [slab[:, :, :longest] for slab in self.slabs]
        if rows == list(range(len(rows))):
            fetched = [slab[: len(rows)] for slab in fetched]
        else:
            fetched = [mx.take(slab, mx.array(rows), axis=0) for slab in fetched]
        return fetched[0], fetched[1], longest, mask

    def _begin(self, both: tuple[mx.array, mx.array]) -> None:
        if not self.slabs:
            _, heads, _, dim = both[0].shape
            shape = (self.max_active_requests, heads, self.max_seq_len, dim)
            self.slabs = [mx.zeros(shape, dtype=part.dtype) for part in both]

    def _write(self, number: int, part: mx.array, slot: int, position: int) -> None:
        self.slabs[number] = mx.slice_update(self.slabs[number], part, mx.array([slot, position]), axes=[0, 2])
