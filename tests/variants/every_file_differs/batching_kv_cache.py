"""Slabs `(rows, room, KV, D)`: a token's keys lie together, and what is fetched is a transposed view."""

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import Fetched, KvCache, Mask
from .slot_lengths import SharedLengths


class BatchingKvCache:
    def __init__(self, max_active_requests: int, max_seq_len: int, shared: SharedLengths | None = None) -> None:
        if min(max_active_requests, max_seq_len) < 1:
            raise ValueError(f"{max_active_requests} slots of {max_seq_len} tokens: both must be at least 1")
        self.max_active_requests = max_active_requests
        self.max_seq_len = max_seq_len
        self.held: dict[int, int] = {}
        self.keys_and_values: list[mx.array] = []

    @property
    def lengths(self) -> dict[int, int]:
        return dict(sorted(self.held.items()))

    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        length = prefilled_cache.offset
        self._expect_free(slot_id)
        if not 1 <= length <= self.max_seq_len:
            raise ValueError(f"{length} tokens: a slot takes 1 to {self.max_seq_len}")
        parts = [part[:, :, :length].swapaxes(1, 2) for part in (prefilled_cache.keys, prefilled_cache.values)]
        self._grow(parts, slot_id + 1, length)
        self._put(slot_id, parts)
        self.held[slot_id] = length

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        if self.held.pop(slot_id, None) is None:
            raise ValueError(f"slot {slot_id} has no owner")

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        if source not in self.held:
            raise ValueError(f"slot {source} has no owner to move")
        self._expect_free(target)
        self._grow(self.keys_and_values, target + 1, 0)
        _, room, heads, dim = self.keys_and_values[0].shape
        size = (1, min(max(self.held.values()) + 1, room), heads, dim)
        parts = [mx.slice(slab, mx.array([source]), axes=[0], slice_size=size) for slab in self.keys_and_values]
        mx.eval(parts)
        self._put(target, parts)
        self.held[target] = self.held.pop(source)

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        lengths, count = self.lengths, keys.shape[2]
        if len(lengths) != keys.shape[0]:
            raise ValueError(f"{keys.shape[0]} rows for {len(lengths)} owners")
        total = max(lengths.values(), default=0) + count
        if total > self.max_seq_len:
            raise ValueError(f"{total} tokens do not fit into {self.max_seq_len}")
        parts = [part.swapaxes(1, 2) for part in (keys, values)]
        self._grow(parts, 0, total)
        slots = mx.array(list(lengths))
        places = mx.array(list(lengths.values()))[:, None] + mx.arange(count)
        for slab, part in zip(self.keys_and_values, parts, strict=True):
            slab[slots[:, None], places] = part
        self.held = {slot: length + count for slot, length in lengths.items()}
        together = list(lengths) == list(range(len(lengths)))
        rows = slice(len(lengths)) if together else slots
        all_keys, all_values = (slab[rows, :total].swapaxes(1, 2) for slab in self.keys_and_values)
        return all_keys, all_values, total, mask

    def row_lengths(self) -> mx.array:
        return mx.array(list(self.lengths.values()), dtype=mx.int32)

    def scrub(self) -> None:
        for i, slab in enumerate(self.keys_and_values):
            lengths = mx.array([self.held.get(slot, 0) for slot in range(slab.shape[0])])
            own = mx.arange(slab.shape[1]) < lengths[:, None]
            self.keys_and_values[i] = mx.where(own[:, :, None, None], slab, 0)

    def _expect_free(self, slot: int) -> None:
        if slot in self.held or not 0 <= slot < self.max_active_requests:
            raise ValueError(f"slot {slot} is taken or does not exist: taken are {sorted(self.held)}")

    def _put(self, slot: int, parts: list[mx.array]) -> None:
        slabs = zip(self.keys_and_values, parts, strict=True)
        self.keys_and_values = [mx.slice_update(slab, part, mx.array([slot]), axes=[0]) for slab, part in slabs]

    def _grow(self, parts: list[mx.array], rows: int, room: int) -> None:
        if not self.keys_and_values:
            self.keys_and_values = [mx.zeros((0, 0, *part.shape[2:]), dtype=part.dtype) for part in parts]
        had_rows, had_room = self.keys_and_values[0].shape[:2]
        rows = had_rows if rows <= had_rows else min(max(rows, 2 * had_rows), self.max_active_requests)
        room = had_room if room <= had_room else min(max(room, 2 * had_room, 32), self.max_seq_len)
        if (rows, room) != (had_rows, had_room):
            widths = [(0, rows - had_rows), (0, room - had_room), (0, 0), (0, 0)]
            self.keys_and_values = [mx.pad(slab, widths) for slab in self.keys_and_values]
