"""What the tests of paged attention share: rows whose tokens are scattered over a pool, and what attention over them should be.

Tasks 1 to 5 have one contract, and so the same checks. What is about numbers runs on whatever this machine has; what is about
memory traffic or the order of threads asks for the CPU runner.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import numpy as np

from metal_anywhere import cpu_runner
from oracles import assert_close, attention64, causal64, normal, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import ROUNDED_ONCE, barrier_hint, in_order

PagedAttention = Callable[..., mx.array]

WHERE = "position p of row b is in block tables[b][p // block_size], at place p % block_size"
HEADS = "query head h reads key/value head h // (H / KV)"
CAUSAL = "query i of row b is at position lengths[b] − L + i, and sees the keys up to its own"
LAST = "lengths[b] counts the new token, whose key is in the pool already"

NOT_A_BLOCK = (-1, 2**31 - 1, -(2**31), 10**6)


@dataclass(frozen=True)
class Paged:
    """Rows over a pool, and the same rows without one: keys and values `(KV, length, D)` for each."""

    q: mx.array
    k_pool: mx.array
    v_pool: mx.array
    tables: mx.array
    lengths: list[int]
    keys: list[np.ndarray]
    values: list[np.ndarray]

    @property
    def arguments(self) -> tuple[Any, ...]:
        return self.q, self.k_pool, self.v_pool, self.tables, mx.array(self.lengths, dtype=mx.int32)

    def attention64(self, scale: float | None = None) -> np.ndarray:
        """Dense attention, row by row, in float64."""
        rows = zip(to_numpy(self.q), self.keys, self.values, strict=True)
        queries = self.q.shape[2]
        return np.stack([_attention64(q, k, v, scale, causal64(queries, k.shape[1])) for q, k, v in rows])


def _attention64(q: np.ndarray, k: np.ndarray, v: np.ndarray, scale: float | None, mask: np.ndarray) -> np.ndarray:
    return attention64(q[None], k[None], v[None], scale, mask)[0]


def make_paged(
    lengths: Sequence[int],
    queries: int = 1,
    heads: int = 4,
    kv_heads: int = 2,
    dim: int = 32,
    block_size: int = 16,
    dtype: mx.Dtype = mx.float32,
    size: float = 1.0,
    others: float | None = None,
    tails: Sequence[int] | None = None,
    spare: int = 2,
    seed: int = 0,
) -> Paged:
    """Rows in blocks of a shuffled pool.

    size: of the queries' numbers. others: what all places hold that belong to no row's token; noise when None. tails: what
    is in the tables after a row's own blocks, in turn; other blocks when None. spare: entries of the tables that even
    the longest row does not need.
    """
    random = np.random.default_rng([seed, 1])
    width = max(-(-length // block_size) for length in lengths) + spare
    num_blocks = len(lengths) * width
    pools = [to_numpy(normal(kv_heads, num_blocks, block_size, dim, seed=seed + i, dtype=dtype)) for i in (2, 3)]
    tables = random.permutation(num_blocks).astype(np.int32).reshape(len(lengths), width)
    keys, values = ([_row(pool, *row) for row in zip(tables, lengths, strict=True)] for pool in pools)
    mine = np.zeros((num_blocks, block_size), dtype=bool)
    for table, length in zip(tables, lengths, strict=True):
        places = np.arange(length)
        mine[table[places // block_size], places % block_size] = True
        if tails is not None:
            table[-(-length // block_size) :] = np.resize(tails, width - -(-length // block_size))
    if others is not None:
        pools = [np.where(mine[..., None], pool, others) for pool in pools]
    q = normal(len(lengths), heads, queries, dim, seed=seed + 1, size=size, dtype=dtype)
    k_pool, v_pool = (mx.array(pool.astype(np.float32)).astype(dtype) for pool in pools)
    return Paged(q, k_pool, v_pool, mx.array(tables), list(lengths), keys, values)


def _row(pool: np.ndarray, table: np.ndarray, length: int) -> np.ndarray:
    """A row's tokens out of its blocks: `(KV, length, D)`."""
    return pool[:, table].reshape(pool.shape[0], -1, pool.shape[3])[:, :length]


def around(block_size: int, least: int = 1) -> list[int]:
    """Lengths at which a block is begun, nearly full, full, and left."""
    return [max(length, least) for length in (1, block_size - 1, block_size, block_size + 1, 2 * block_size + 3)]


# Checks


def check_formula(attend: PagedAttention, paged: Paged, look_at: str) -> None:
    _, heads, queries, dim = paged.q.shape
    kv_heads, _, block_size, _ = paged.k_pool.shape
    hint = (
        f"{heads} heads over {kv_heads}, L = {queries}, D = {dim}, blocks of {block_size}, lengths {paged.lengths}: {look_at}"
    )
    assert_close(attend(*paged.arguments), paged.attention64(), hint)


def check_any_order_of_blocks(attend: PagedAttention, queries: int = 1) -> None:
    """The same tokens in other blocks: the pool and the tables are renamed together."""
    paged = make_paged([queries, 20, 37], queries=queries)
    first = attend(*paged.arguments)
    for seed in (1, 2):
        names = np.random.default_rng(seed).permutation(paged.k_pool.shape[1])
        old = mx.array(np.argsort(names).astype(np.int32))
        renamed = replace(
            paged,
            k_pool=paged.k_pool[:, old],
            v_pool=paged.v_pool[:, old],
            tables=mx.array(names.astype(np.int32)[np.array(paged.tables)]),
        )
        assert_close(attend(*renamed.arguments), to_numpy(first), f"the same tokens are in other blocks now: {WHERE}", 1e-6)


def check_shared_blocks(attend: PagedAttention, queries: int = 1) -> None:
    """Two rows begin with the same two blocks, as they will from day 3 on."""
    paged = make_paged([40, 44], queries=queries)
    tables = np.array(paged.tables)
    tables[1, :2] = tables[0, :2]
    rows = [[_row(to_numpy(pool), tables[b], paged.lengths[b]) for b in range(2)] for pool in (paged.k_pool, paged.v_pool)]
    shared = replace(paged, tables=mx.array(tables), keys=rows[0], values=rows[1])
    check_formula(attend, shared, "a block may be in the tables of several rows")


def check_what_is_not_read(attend: PagedAttention, others: float, queries: int = 1) -> None:
    lengths = [max(queries, n) for n in (1, 13, 16, 35)]
    paged = make_paged(lengths, queries=queries, others=others)
    assert_close(
        attend(*paged.arguments),
        paged.attention64(),
        f"free blocks, and the places of a last block after the row's length, hold {others}: a weight of 0 does not cancel "
        "nan, so that neither keys nor values from there may be used at all",
    )


def check_invalid_tails(attend: PagedAttention, queries: int = 1) -> None:
    lengths = [max(queries, n) for n in (1, 16, 17)]
    paged = make_paged(lengths, queries=queries, others=np.nan, tails=NOT_A_BLOCK)
    hint = "after the blocks that a row's length needs, its table may hold anything: do not look anything up there"
    assert_close(attend(*paged.arguments), paged.attention64(), hint)


def check_half(attend: PagedAttention, dtype: mx.Dtype, tolerance: float, queries: int = 1, times: int = 1) -> None:
    """With values of `times` their size."""
    paged = make_paged([40, 21], queries=queries, dtype=dtype)
    louder = replace(paged, v_pool=times * paged.v_pool, values=[times * to_numpy(value) for value in paged.values])
    louder = replace(louder, values=[_rounded(value, dtype) for value in louder.values])
    out = attend(*louder.arguments)
    assert out.dtype == dtype, f"the result has the dtype of q, {dtype}, not {out.dtype}"
    hint = (
        f"{dtype}: a kernel's weights and sums are float32, and only its result is rounded; if it is far off, see the formula"
    )
    assert_close(out, louder.attention64(), hint, tolerance)


def _rounded(x: np.ndarray, dtype: mx.Dtype) -> np.ndarray:
    return to_numpy(mx.array(x.astype(np.float32)).astype(dtype))


def check_rounded_once(attend: PagedAttention, dtype: mx.Dtype, queries: int = 1) -> None:
    check_half(attend, dtype, ROUNDED_ONCE[dtype], queries, times=100)


def check_scale(attend: PagedAttention, queries: int = 1) -> None:
    paged = make_paged([20, 7], queries=queries)
    got = attend(*paged.arguments, scale=0.3)
    assert_close(got, paged.attention64(0.3), "scale 0.3 instead of 1/√D, applied once")


def check_large_scores(attend: PagedAttention, queries: int = 1) -> None:
    paged = make_paged([90, 30], queries=queries, size=300.0)
    # Scores of a few hundred have an absolute error of about 1e-4 in float32, which is a relative one in the weights.
    assert_close(
        attend(*paged.arguments), paged.attention64(), "scores of a few hundred: a running maximum, rescaled sums", 1e-3
    )


def check_scores_far_from_zero(attend: PagedAttention, far: float, queries: int = 1) -> None:
    """All scores of a row are moved by the same number, which changes no weight."""
    paged = make_paged([70, 33], queries=queries, heads=1, kv_heads=1)
    q = mx.concatenate([paged.q[..., :31], mx.full((2, 1, queries, 1), far)], axis=-1)
    k_pool = mx.concatenate([paged.k_pool[..., :31], mx.ones((*paged.k_pool.shape[:3], 1))], axis=-1)
    got = attend(q, k_pool, *paged.arguments[2:], scale=1.0)
    near = replace(paged, q=paged.q[..., :31], keys=[key[..., :31] for key in paged.keys])
    # A score of 10,000 has an absolute error of 1e-3 in float32.
    assert_close(got, near.attention64(1.0), f"scores of about {far:.0f}: no number but the maximum may be as large", 1e-2)


def check_order(attend: PagedAttention, order: str, queries: int = 1) -> None:
    paged = make_paged([70, 30], queries=queries)
    out = in_order(order, lambda: attend(*paged.arguments))
    assert_close(out, paged.attention64(), barrier_hint(order))


def check_row_alone(attend: PagedAttention, queries: int = 1) -> None:
    paged = make_paged([max(queries, n) for n in (50, 1, 33)], queries=queries)
    together = attend(*paged.arguments)
    for b, length in enumerate(paged.lengths):
        row = slice(b, b + 1)
        lengths = mx.array([length], dtype=mx.int32)
        alone = attend(paged.q[row], paged.k_pool, paged.v_pool, paged.tables[row], lengths)
        assert_close(together[row], to_numpy(alone), f"row {b} must not depend on its neighbours", 0.0)


def check_strides(attend: PagedAttention, queries: int = 1) -> None:
    """The same numbers in another order in memory, as pieces of larger arrays."""
    paged = make_paged([40, 21], queries=queries, dim=64)
    q = mx.contiguous(paged.q.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    k = mx.contiguous(paged.k_pool.swapaxes(0, 1)).swapaxes(0, 1)
    v = mx.contiguous(paged.v_pool.swapaxes(1, 2)).swapaxes(1, 2)
    tables = mx.contiguous(mx.repeat(paged.tables.T, 2, axis=0))[::2].T
    lengths = mx.array([40, 0, 21, 0])[::2]
    out = attend(q, k, v, tables, lengths)
    assert_close(out, paged.attention64(), "q, the pools, tables and lengths have strides of their own, for each of their axes")


def check_no_copy(attend: PagedAttention, queries: int = 1) -> None:
    """A piece of a larger pool is read in place."""
    paged = make_paged([20, 9], queries=queries)
    large_k, large_v = (mx.contiguous(mx.pad(pool, [(1, 0), (3, 3), (0, 0), (0, 0)])) for pool in (paged.k_pool, paged.v_pool))
    mx.eval(large_k, large_v)
    k, v = large_k[1:, 3:-3], large_v[1:, 3:-3]
    with cpu_runner() as launches:
        out = attend(paged.q, k, v, paged.tables, mx.array(paged.lengths))
        mx.eval(out)
    assert_close(out, paged.attention64(), "the pools are pieces of larger arrays: use k_pool_strides, not the shape")
    for name in ("k_pool", "v_pool"):
        size = launches[0].buffers[name].bytes
        assert size > k.nbytes, (
            f"the kernel was given a copy of {name}: the pool holds all requests' tokens, and is never copied"
        )


def threads_of(attend: PagedAttention, paged: Paged) -> int:
    """The threads of the launch that has the most."""
    with cpu_runner() as launches:
        mx.eval(attend(*paged.arguments))
    return max((launch.threads for launch in launches), default=0)


def check_refusals(attend: PagedAttention, queries: int = 1) -> None:
    """What no form of paged attention takes. (The launchers are given, so these fail only where one was changed.)"""
    paged = make_paged([20, 9], queries=queries)
    q, k, v, _, _ = paged.arguments
    tables = [[1, 0], [2]]
    mx.eval(attend(q, k, v, tables, [20, 9]))
    for wrong, lengths, named, look_at in [
        ([[1], [2]], [20, 9], "row 0", "20 tokens need two blocks of 16"),
        ([[1, 6], [99]], [20, 9], "99", "the pool has no block 99"),
        ([[1, -1], [2]], [20, 9], "-1", "the pool has no block -1"),
        (tables, [20, queries - 1], str(queries - 1), "a row holds the tokens of its queries at least"),
        (tables, [33, 9], "row 0", "33 tokens do not fit into two blocks of 16"),
        (tables, [20], "1", "one length for two rows"),
        (mx.array([[1, 0]]), [20, 9], "1", "one table for two rows"),
        (mx.array([[1.0, 0.0], [2.0, 0.0]]), [20, 9], "float32", "blocks have integers for names"),
    ]:
        with refuses(ValueError, f"tables {wrong}, lengths {lengths}: {look_at}", named):
            attend(q, k, v, wrong, lengths)
    with refuses(ValueError, "tables that reach 64 tokens, and a length of 65", "65"):
        attend(q, k, v, paged.tables, [65, 9])
    with refuses(ValueError, "q, k_pool and v_pool must have the same dtype", "float16"):
        attend(q, k.astype(mx.float16), v, tables, [20, 9])
    with refuses(ValueError, "v_pool has blocks of 15, k_pool of 16", "15"):
        attend(q, k, v[:, :, :15], tables, [20, 9])
    with refuses(ValueError, "3 query heads can't share 2 key/value heads", "3 query heads"):
        attend(q[:, :3], k, v, tables, [20, 9])
