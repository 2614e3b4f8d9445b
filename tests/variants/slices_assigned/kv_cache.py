"""A cache that is padded to twice its size, and written by assigning to a slice."""

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import Fetched, Mask


class KvCache:
    @task(week=2, day=1, number=1)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        if self.keys is None:
            self.keys, self.values = keys[:, :, :0], values[:, :, :0]
        total = self.offset + keys.shape[2]
        missing = total - self.keys.shape[2]
        if missing > 0:
            more = max(missing, self.keys.shape[2], 32)
            self.keys, self.values = (mx.pad(store, [(0, 0), (0, 0), (0, more), (0, 0)]) for store in (self.keys, self.values))
        self.keys[:, :, self.offset : total] = keys
        self.values[:, :, self.offset : total] = values
        self.offset = total
        return self.keys[..., :total, :], self.values[..., :total, :], total, mask

    @task(week=2, day=1, number=2)
    def rewind(self, count: int) -> None:
        if count < 0 or count > self.offset:
            raise ValueError(f"{count} of {self.offset} tokens can't be forgotten")
        self.offset = self.offset - count
