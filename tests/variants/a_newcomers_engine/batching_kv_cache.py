import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import DenseKvCache, Fetched, KvCache, Mask


class BatchingKvCache(DenseKvCache):
    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        length = prefilled_cache.offset
        self._check_free(slot_id)
        if prefilled_cache.keys is None or prefilled_cache.values is None or not 1 <= length <= self.max_seq_len:
            raise ValueError(f"a sequence of {length} tokens for slot {slot_id}: it must have 1 to {self.max_seq_len}")
        new = [part[:, :, :length] for part in (prefilled_cache.keys, prefilled_cache.values)]
        self._make_room(new, slot_id + 1, length)
        self._write_slot(slot_id, new)
        self.slots = self.shared.of({**self.lengths, slot_id: length})

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        self._check_taken(slot_id)
        self.slots = self.shared.of({slot: length for slot, length in self.lengths.items() if slot != slot_id})

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        self._check_taken(source)
        self._check_free(target)
        start = mx.array([source])
        row = [mx.slice(slab, start, [0], (1, *slab.shape[1:])) for slab in self.slabs]
        mx.eval(row)
        self._make_room(row, target + 1, 0)
        self._write_slot(target, row)
        self.slots = self.shared.of({target if slot == source else slot: length for slot, length in self.lengths.items()})

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        rows, heads, count, _ = keys.shape
        if rows != len(self.lengths):
            raise ValueError(f"{rows} rows for {len(self.lengths)} taken slots")
        if self.slots.longest + count > self.max_seq_len:
            raise ValueError(
                f"{count} more tokens for a slot that holds {self.slots.longest}: {self.max_seq_len} is all it can hold"
            )
        after = self.slots.longer(count)
        self._make_room((keys, values), max(after.lengths, default=-1) + 1, after.longest)
        places = after.last(count, heads)
        for slab, new in zip(self.slabs, (keys, values), strict=True):
            slab[places] = new
        self.slots = self.shared.longer(self.slots, count)
        fetched = [slab[:, :, : after.longest][after.rows] for slab in self.slabs]
        return fetched[0], fetched[1], after.longest, mask

    def _check_free(self, slot: int) -> None:
        if not 0 <= slot < self.max_active_requests or slot in self.lengths:
            raise ValueError(f"slot {slot} of {self.max_active_requests} is taken, or does not exist")

    def _check_taken(self, slot: int) -> None:
        if slot not in self.lengths:
            raise ValueError(f"slot {slot} is free: it holds no request")
