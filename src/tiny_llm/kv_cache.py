"""The KV cache: keys and values are computed once per token and kept."""

from abc import ABC, abstractmethod

import mlx.core as mx

from tiny_llm_kit.course import task

from .operators import Attention, Mask, array_attention

Fetched = tuple[mx.array, mx.array, int, Mask]

SMALLEST = 64


class KvCacheBase(ABC):
    """What a layer of the model needs from a cache. How keys and values are stored is up to the cache."""

    @abstractmethod
    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask = None, attention: Attention = array_attention
    ) -> mx.array:
        """Store `k` and `v` `(B, KV, L, D)` and let `q` `(B, H, L, D)` attend over everything stored: `(B, H, L, D)`.

        `attention` is one of `Operators`.
        """


class DenseKvCache(KvCacheBase):
    """A cache that can return what it holds as one array, to attend over."""

    @abstractmethod
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        """Store the keys and values of new tokens and return everything to attend over.

        Args:
            keys, values: `(B, KV, L, D)`.
            mask_length: the number of queries, if it is not L.
            mask: what the caller knows about which positions a query may see; see `grouped_query_attention`.
        Returns:
            keys and values `(B, KV, S, D)`, S, and the mask to attend with.
        """

    def attend(
        self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Mask = None, attention: Attention = array_attention
    ) -> mx.array:
        """See `KvCacheBase`."""
        keys, values, _, mask = self.update_and_fetch(k, v, mask_length=q.shape[2], mask=mask)
        return attention(q, keys, values, scale, mask, self.row_lengths())

    def row_lengths(self) -> mx.array | None:
        """How many tokens each row holds, `(B,)`; None if all hold the same number."""
        return None


class KvCache(DenseKvCache):
    """One layer's cache for one sequence.

    The arrays have room to spare and double when they are full, so adding a token writes that token alone: appending by
    concatenation would copy the whole history for every token. `offset` says how many tokens are stored.
    """

    def __init__(self) -> None:
        self.keys: mx.array | None = None
        self.values: mx.array | None = None
        self.offset = 0

    @task(week=2, day=1, number=1)
    def update_and_fetch(self, keys: mx.array, values: mx.array, mask_length: int | None = None, mask: Mask = None) -> Fetched:
        """See `DenseKvCache`; the mask is returned unchanged."""
        raise NotImplementedError("Week 2 Day 1, task 1: a cache that grows. Read book/src/week2-01-kv-cache.md")

    @task(week=2, day=1, number=2)
    def rewind(self, count: int) -> None:
        """Forget the last `count` tokens; the next ones take their place.

        Raises:
            ValueError: if `count` is negative or more than is stored.
        """
        raise NotImplementedError("Week 2 Day 1, task 2: rewind. Read book/src/week2-01-kv-cache.md")


def _with_room(store: mx.array | None, new: mx.array, total: int) -> mx.array:
    batch, heads, _, dim = new.shape
    capacity = 0 if store is None else store.shape[2]
    if store is not None and total <= capacity:
        return store
    room = mx.zeros((batch, heads, max(SMALLEST, total, 2 * capacity) - capacity, dim), dtype=new.dtype)
    return room if store is None else mx.concatenate([store, room], axis=2)


def _write(store: mx.array, new: mx.array, offset: int) -> mx.array:
    # With the start as an array MLX writes into the old buffer, even while an earlier step is still running.
    return mx.slice_update(store, new, mx.array([offset]), axes=[2])
