"""Integers join in pairs until a word is full; keys and values are quantized together."""

import mlx.core as mx

from tiny_llm_kit.course import task

from .paged_kv_cache import PagedKvCache
from .ragged_batch import Group


@task(week=3, day=5, number=7)
def quantize_rows(x: mx.array, bits: int, group_size: int = GROUP_SIZE) -> mx.array:
    check_quantized(bits, x.shape[-1], group_size)
    most, wide = (1 << bits) - 1, mx.unflatten(x, -1, (-1, group_size)).astype(mx.float32)
    low = wide.min(axis=-1, keepdims=True)
    scale = ((wide.max(axis=-1, keepdims=True) - low) / most).astype(x.dtype)
    sound = mx.isfinite(wide).all(axis=-1, keepdims=True)
    steps = (wide - low) / mx.where(scale > 0, scale, 1).astype(mx.float32)
    q = mx.clip(mx.floor(mx.where(sound, steps, 0) + 0.5), 0, most).astype(mx.uint32)
    while bits < 32:
        q, bits = q[..., 0::2] + (q[..., 1::2] << bits), 2 * bits
    stored = mx.concatenate([mx.where(sound, scale, mx.nan).astype(x.dtype), low.astype(x.dtype)], axis=-1)
    return mx.concatenate([q, stored.view(mx.uint32)], axis=-1).flatten(-2)


@task(week=3, day=5, number=7)
def dequantize_rows(rows: mx.array, bits: int, group_size: int, dtype: mx.Dtype) -> mx.array:
    words = bits * group_size // 32
    groups = mx.unflatten(rows, -1, (-1, words + 2 * dtype.size // 4))
    q, width = groups[..., :words], 32
    while width > bits:
        width //= 2
        q = mx.stack([q & ((1 << width) - 1), q >> width], axis=-1).flatten(-2)
    scale, bias = mx.split(groups[..., words:].view(dtype).astype(mx.float32), 2, axis=-1)
    return mx.flatten(bias + scale * q, -2).astype(dtype)


class QuantizedKvCache(PagedKvCache):
    @task(week=3, day=5, number=7)
    def write(self, k: mx.array, v: mx.array) -> None:
        rows = quantize_rows(mx.concatenate([k, v]), self.bits, self.group_size)
        super().write(rows[:1], rows[1:])
        self.dtype = k.dtype

    @task(week=3, day=5, number=7)
    def fetch(self, table: mx.array) -> tuple[mx.array, mx.array]:
        return self.numbers(mx.stack(super().fetch(table)))

    @task(week=3, day=5, number=7)
    def _fetch_group(self, group: Group) -> tuple[mx.array, mx.array]:
        return self.numbers(mx.stack(super()._fetch_group(group)))

    def numbers(self, both: mx.array) -> tuple[mx.array, mx.array]:
        keys, values = dequantize_rows(both, self.bits, self.group_size, self.dtype)
        return keys, values

    @property
    @task(week=3, day=5, number=7)
    def bytes_per_token(self) -> int:
        return sum(pool.nbytes // pool.shape[1] for pool in self.pools)
