"""Pools are `(num_blocks · KV · block_size, D)`: a block lies in one piece, and in it each head's part."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..operators import Attention, Mask, array_attention


class PagedKvCache:
    @task(week=3, day=1, number=3)
    def write(self, k: mx.array, v: mx.array) -> None:
        batch = self._current_batch()
        heads = k.shape[1]
        for new in () if self.pools else (k, v):
            self.pools.append(mx.zeros((self.num_blocks * heads * self.block_size, new.shape[-1]), dtype=new.dtype))
        slots, fresh = self.rows(batch.slots, heads), self.rows(batch.fresh, heads)
        for i, new in enumerate((k, v)):
            if fresh.size > 0:
                self.pools[i][fresh] = mx.zeros((), dtype=new.dtype)
            self.pools[i][slots] = new.squeeze(0)

    @task(week=3, day=1, number=3)
    def fetch(self, table: mx.array) -> tuple[mx.array, mx.array]:
        slots = mx.flatten(table[..., None] * self.block_size + mx.arange(self.block_size), -2)
        rows = mx.stack([self.rows(own, self.heads) for own in slots])
        keys, values = (pool[rows] for pool in self.pools)
        return keys, values

    @task(week=3, day=1, number=3)
    def copy_block(self, source: int, target: int) -> None:
        for pool in self.pools:
            size = pool.shape[0] // self.num_blocks
            block = mx.array(pool[source * size : (source + 1) * size])
            mx.eval(block)
            pool[target * size : (target + 1) * size] = block

    @task(week=3, day=1, number=4)
    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask = None, attention: Attention = array_attention
    ) -> mx.array:
        batch = self._current_batch()
        self.write(k, v)
        out = []
        for group in batch.groups:
            # (T', H, D) to (rows, H, queries, D), and back
            own = q[0, :, group.places].swapaxes(0, 1)
            own = mx.unflatten(own, 0, (group.rows, group.queries)).swapaxes(1, 2)
            if self.paged_attention is None:
                own = attention(own, *self.fetch(group.table), scale, group.mask, None)
            else:
                own = self.paged_attention(own, *self.by_heads(), group.table, group.lengths, scale)
            out += list(own.swapaxes(1, 2))
        return mx.concatenate(out).swapaxes(0, 1)[None]

    @property
    def heads(self) -> int:
        return self.pools[0].shape[0] // (self.num_blocks * self.block_size)

    def rows(self, slots: mx.array, heads: int) -> mx.array:
        """Slots `(T,)` to rows of the pools `(KV, T)`."""
        blocks, places = slots // self.block_size, slots % self.block_size
        return (blocks * heads + mx.arange(heads)[:, None]) * self.block_size + places

    def by_heads(self) -> list[mx.array]:
        return [mx.unflatten(pool, 0, (self.num_blocks, self.heads, self.block_size)).swapaxes(0, 1) for pool in self.pools]


@task(week=3, day=1, number=3)
def gather(pool: mx.array, table: mx.array) -> mx.array:
    return mx.stack([mx.flatten(mx.take(pool, row, axis=1), 1, 2) for row in table])
