import mlx.core as mx

from tiny_llm_kit.course import task

from .paged_kv_cache import PagedKvCache
from .ragged_batch import Group


@task(week=3, day=5, number=7)
def quantize_rows(x: mx.array, bits: int, group_size: int = GROUP_SIZE) -> mx.array:
    check_quantized(bits, x.shape[-1], group_size)
    groups = x.astype(mx.float32).reshape(*x.shape[:-1], -1, group_size)
    bias = groups.min(axis=-1)
    scale = ((groups.max(axis=-1) - bias) / (2**bits - 1)).astype(x.dtype)
    step = mx.where(scale == 0, 1, scale).astype(mx.float32)
    q = mx.minimum(mx.maximum((groups - bias[..., None]) / step[..., None] + 0.5, 0), 2**bits - 1).astype(mx.uint32)
    fields = q.reshape(*x.shape[:-1], -1, 32 // bits)
    words = (fields << mx.arange(0, 32, bits, dtype=mx.uint32)).sum(axis=-1)
    both = mx.stack([scale, bias.astype(x.dtype)], axis=-1).view(mx.uint32).flatten(-2)
    return mx.concatenate([words.astype(mx.uint32), both], axis=-1)


@task(week=3, day=5, number=7)
def dequantize_rows(rows: mx.array, bits: int, group_size: int, dtype: mx.Dtype) -> mx.array:
    each = group_size * bits // 32
    groups = rows.shape[-1] // (each + dtype.size // 2)
    words, both = rows[..., : each * groups], rows[..., each * groups :]
    scale, bias = both.view(dtype)[..., ::2, None], both.view(dtype)[..., 1::2, None]
    q = (words[..., None] >> mx.arange(0, 32, bits, dtype=mx.uint32)) & (2**bits - 1)
    q = q.reshape(*rows.shape[:-1], groups, group_size).astype(mx.float32)
    return (scale * q + bias).astype(dtype).flatten(-2)


class QuantizedKvCache(PagedKvCache):
    @task(week=3, day=5, number=7)
    def write(self, k: mx.array, v: mx.array) -> None:
        k_rows, v_rows = (quantize_rows(x, self.bits, self.group_size) for x in (k, v))
        super().write(k_rows, v_rows)
        self.dtype = v.dtype

    @task(week=3, day=5, number=7)
    def fetch(self, table: mx.array) -> tuple[mx.array, mx.array]:
        keys, values = (dequantize_rows(x, self.bits, self.group_size, self.dtype) for x in super().fetch(table))
        return keys, values

    @task(week=3, day=5, number=7)
    def _fetch_group(self, group: Group) -> tuple[mx.array, mx.array]:
        keys, values = super()._fetch_group(group)
        return tuple(dequantize_rows(x, self.bits, self.group_size, self.dtype) for x in (keys, values))

    @property
    @task(week=3, day=5, number=7)
    def bytes_per_token(self) -> int:
        if not self.pools:
            return 0
        return sum(pool.shape[0] * pool.shape[2] * pool.dtype.size for pool in self.pools)
