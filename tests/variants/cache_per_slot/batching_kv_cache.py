"""A growing cache for each slot: a move costs nothing, and a fetch pads."""

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
        self.rows: dict[int, KvCache] = {}

    @property
    def lengths(self) -> dict[int, int]:
        return {slot: self.rows[slot].offset for slot in sorted(self.rows)}

    @task(week=2, day=6, number=2)
    def add_request(self, prefilled_cache: KvCache, slot_id: int) -> None:
        length = prefilled_cache.offset
        if not 0 <= slot_id < self.max_active_requests:
            raise ValueError(f"there is no slot {slot_id}")
        if slot_id in self.rows:
            raise ValueError(f"slot {slot_id} has an owner")
        if not 1 <= length <= self.max_seq_len:
            raise ValueError(f"{length} tokens: a slot takes 1 to {self.max_seq_len}")
        self.rows[slot_id] = KvCache()
        self.rows[slot_id].update_and_fetch(prefilled_cache.keys[:, :, :length], prefilled_cache.values[:, :, :length])

    @task(week=2, day=6, number=2)
    def remove_request(self, slot_id: int) -> None:
        if self.rows.pop(slot_id, None) is None:
            raise ValueError(f"slot {slot_id} has no owner")

    @task(week=2, day=6, number=2)
    def move_request(self, source: int, target: int) -> None:
        if source not in self.rows or target in self.rows or not 0 <= target < self.max_active_requests:
            raise ValueError(f"no move from slot {source} to {target}: owners are in {sorted(self.rows)}")
        self.rows[target] = self.rows.pop(source)

    @task(week=2, day=6, number=2)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        owners = [self.rows[slot] for slot in sorted(self.rows)]
        count = keys.shape[2]
        if len(owners) != keys.shape[0]:
            raise ValueError(f"{keys.shape[0]} rows for {len(owners)} owners")
        if any(owner.offset + count > self.max_seq_len for owner in owners):
            raise ValueError(f"a slot has no room for {count} tokens more")
        fetched = [owner.update_and_fetch(keys[i : i + 1], values[i : i + 1])[:2] for i, owner in enumerate(owners)]
        total = max(owner.offset for owner in owners)
        all_keys, all_values = (mx.stack([_padded(part[0], total) for part in parts]) for parts in zip(*fetched, strict=True))
        return all_keys, all_values, total, mask

    def row_lengths(self) -> mx.array:
        return mx.array(list(self.lengths.values()), dtype=mx.int32)

    def scrub(self) -> None:
        """Nothing is left over: what a row is padded with is always 0."""


def _padded(part: mx.array, total: int) -> mx.array:
    """`(KV, L, D)` to `(KV, total, D)`."""
    return mx.pad(part, [(0, 0), (0, total - part.shape[1]), (0, 0)])
