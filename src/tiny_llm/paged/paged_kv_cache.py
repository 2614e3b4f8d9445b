"""The paged KV cache of one layer: keys and values in a pool of blocks, written in place and read through block tables.

It knows blocks and places in them, not requests: `BlockPool` keeps track of who holds which block.
"""

from collections.abc import Callable

import mlx.core as mx

from tiny_llm_kit.course import task

from ..kv_cache import KvCacheBase
from ..operators import Attention, Mask, array_attention
from .ragged_batch import Group, RaggedBatch, head_pieces

PagedAttention = Callable[[mx.array, mx.array, mx.array, mx.array, mx.array, float], mx.array]
"""q `(B, H, L, D)`, pools of keys and values `(KV, num_blocks, block_size, D)`, table, lengths, scale, to `(B, H, L, D)`."""


class PagedKvCache(KvCacheBase):
    """One layer's keys and values: two pools `(KV, num_blocks · block_size, D)`.

    Before each call of the model, `batch` is set to what the call computes; all layers get the same one.

    Args:
        paged_attention: attends over the pools in place, such as `paged_attention` of Day 2. None: the blocks are gathered in
            one copy, and the model's own attention computes.
    """

    def __init__(self, num_blocks: int, block_size: int, paged_attention: PagedAttention | None = None) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.paged_attention = paged_attention
        self.batch: RaggedBatch | None = None
        self.pools: list[mx.array] = []  # keys, values

    @task(week=3, day=1, number=3)
    def write(self, k: mx.array, v: mx.array) -> None:
        """Set the batch's `fresh` slots to 0, and put `k` and `v` `(1, KV, T, D)` into its `slots`.

        It writes in place: a pool must not be copied for each token.

        Raises:
            RuntimeError: if `batch` has not been set.
        """
        raise NotImplementedError(
            "Week 3 Day 1, task 3: writing in place, and copying a block. Read book/src/week3-01-paged-kv-cache.md"
        )

    @task(week=3, day=1, number=3)
    def fetch(self, table: mx.array) -> tuple[mx.array, mx.array]:
        """Keys and values of the blocks that `table` `(rows, blocks)` lists: each `(rows, KV, blocks · block_size, D)`."""
        raise NotImplementedError(
            "Week 3 Day 1, task 3: writing in place, and copying a block. Read book/src/week3-01-paged-kv-cache.md"
        )

    @task(week=3, day=1, number=3)
    def copy_block(self, source: int, target: int) -> None:
        """Copy what a block holds into another one; do nothing if nothing has been written yet."""
        raise NotImplementedError(
            "Week 3 Day 1, task 3: writing in place, and copying a block. Read book/src/week3-01-paged-kv-cache.md"
        )

    @task(week=3, day=1, number=4)
    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask = None, attention: Attention = array_attention
    ) -> mx.array:
        """Write the step's keys and values, and let each sequence attend over its own blocks.

        Args:
            q: `(1, H, T, D)`, the T tokens of `batch`.
            k, v: `(1, KV, T, D)`.
            mask: ignored, since the batch has one for each group.
        Returns:
            `(1, H, T, D)`.
        Raises:
            RuntimeError: if `batch` has not been set.
        """
        raise NotImplementedError(
            "Week 3 Day 1, task 4: attending through the tables. Read book/src/week3-01-paged-kv-cache.md"
        )

    @task(week=3, day=1, number=4)
    def _attend_group(self, q: mx.array, group: Group, scale: float, attention: Attention) -> mx.array:
        """`(1, H, T, D)` to `(1, H, rows · queries, D)`."""
        raise NotImplementedError(
            "Week 3 Day 1, task 4: attending through the tables. Read book/src/week3-01-paged-kv-cache.md"
        )

    @task(week=3, day=1, number=4)
    def _fetch_group(self, group: Group) -> tuple[mx.array, mx.array]:
        """`fetch`, of the group's table."""
        raise NotImplementedError(
            "Week 3 Day 1, task 4: attending through the tables. Read book/src/week3-01-paged-kv-cache.md"
        )

    def _current_batch(self) -> RaggedBatch:
        if self.batch is None:
            raise RuntimeError("the cache has no batch: set `batch` before the model is called")
        return self.batch

    def _blocks(self) -> tuple[mx.array, mx.array]:
        """The pools, block by block: keys and values `(KV, num_blocks, block_size, D)`."""
        keys, values = (pool.reshape(pool.shape[0], self.num_blocks, self.block_size, -1) for pool in self.pools)
        return keys, values


@task(week=3, day=1, number=3)
def gather(pool: mx.array, table: mx.array) -> mx.array:
    """A pool `(KV, num_blocks, block_size, D)` and a table `(rows, blocks)` to `(rows, KV, blocks · block_size, D)`."""
    raise NotImplementedError(
        "Week 3 Day 1, task 3: writing in place, and copying a block. Read book/src/week3-01-paged-kv-cache.md"
    )


def _pick(pool: mx.array, pieces: mx.array) -> mx.array:
    """`gather`, with the result of `head_pieces` for the table. A head's part of a block is copied as a whole, not number by
    number."""
    kv_heads, num_blocks, _, dim = pool.shape
    return pool.reshape(kv_heads * num_blocks, -1)[pieces].reshape(len(pieces), kv_heads, -1, dim)
