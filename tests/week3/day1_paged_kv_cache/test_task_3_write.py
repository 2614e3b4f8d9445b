"""Week 3 Day 1, task 3: keys and values go where the batch says, in place, and come back through a table."""

from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from oracles import HALF, assert_close, normal, to_numpy
from ragged import Span, make_batch
from support import refuses

KV, DIM, BLOCK = 2, 8, 4


def new_tokens(count: int, seed: int, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    """Keys and values `(1, KV, count, D)`."""
    return normal(1, KV, count, DIM, seed=2 * seed, dtype=dtype), normal(1, KV, count, DIM, seed=2 * seed + 1, dtype=dtype)


def write(cache: Any, spans: Sequence[Span], k: mx.array, v: mx.array) -> None:
    """Write the tokens of these spans, one span after another."""
    cache.batch = make_batch(spans, BLOCK)
    cache.write(k, v)


def held(cache: Any, table: Sequence[int], tokens: int) -> list[mx.array]:
    """Keys and values `(1, KV, tokens, D)` of a sequence."""
    return [part[:, :, :tokens] for part in cache.fetch(mx.array([list(table)]))]


def filled(num_blocks: int, seed: int = 9) -> tuple[Any, mx.array, mx.array]:
    """A cache all of whose blocks are written, in order, and its keys and values."""
    cache = answer.PagedKvCache(num_blocks, BLOCK)
    k, v = new_tokens(num_blocks * BLOCK, seed)
    write(cache, [Span(0, num_blocks * BLOCK, range(num_blocks))], k, v)
    return cache, k, v


def assert_holds(cache: Any, table: Sequence[int], k: mx.array, v: mx.array, hint: str) -> None:
    for name, got, want in zip(("keys", "values"), held(cache, table, k.shape[2]), (k, v), strict=True):
        assert_close(got, want, f"{hint}: {name} of the blocks {list(table)}", 0.0)


def test_task_3_what_is_written_comes_back_through_the_table() -> None:
    cache, (k, v) = answer.PagedKvCache(8, BLOCK), new_tokens(6, 1)
    write(cache, [Span(0, 6, [5, 2])], k, v)
    assert_holds(cache, [5, 2], k, v, "6 tokens in 2 blocks of 4")


def test_task_3_a_table_gives_its_blocks_in_its_order() -> None:
    cache, k, v = filled(6)
    table = mx.array([[4, 1, 1], [0, 5, 2]], dtype=mx.int32)
    for name, got, want in zip(("keys", "values"), cache.fetch(table), (k, v), strict=True):
        blocks = to_numpy(want)[0].reshape(KV, 6, BLOCK, DIM)
        rows = [np.concatenate([blocks[:, block] for block in row], axis=1) for row in ([4, 1, 1], [0, 5, 2])]
        hint = f"{name} of two rows of 3 blocks: (rows, KV, blocks · block_size, D), a block may occur twice"
        assert_close(got, np.stack(rows), hint, 0.0)


def test_task_3_gather_puts_the_blocks_of_a_row_together() -> None:
    pool = normal(KV, 5, BLOCK, DIM, seed=3)
    got = answer.gather(pool, mx.array([[3, 0], [1, 1], [4, 2]]))
    want = np.stack([np.concatenate([to_numpy(pool)[:, b] for b in row], axis=1) for row in ([3, 0], [1, 1], [4, 2])])
    assert_close(got, want, "a pool (KV, num_blocks, block_size, D) and a table (3, 2) to (3, KV, 2 · block_size, D)", 0.0)


def test_task_3_each_sequence_is_written_into_its_own_blocks() -> None:
    cache, before_k, before_v = filled(8)
    k, v = new_tokens(9, 1)
    write(cache, [Span(4, 5, [6, 1]), Span(2, 3, [0]), Span(0, 7, [7, 3])], k, v)
    assert_holds(cache, [7, 3], k[:, :, 2:], v[:, :, 2:], "a prompt of 7 tokens after two decodes")
    for table, at, place in (([6, 1], 4, 0), ([0], 2, 1)):
        for name, got, new in zip(("keys", "values"), held(cache, table, at + 1), (k, v), strict=True):
            assert_close(got[:, :, at], new[:, :, place], f"{name} of a decode: token {at} of blocks {table}", 0.0)
    others = [6, 2, 4, 5]
    rows = [slice(4 * block, 4 * block + 4) for block in others]
    old_k, old_v = (mx.concatenate([x[:, :, row] for row in rows], axis=2) for x in (before_k, before_v))
    assert_holds(cache, others, old_k, old_v, "blocks in which nothing was written keep what they hold")
    assert_holds(cache, [0], before_k[:, :, :2], before_v[:, :, :2], "what was before a decode's token in its block")


@settings(max_examples=25)
@given(st.data())
def test_task_3_any_order_of_chunks_and_decodes(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4), label="sequences")
    blocks = data.draw(st.permutations(range(4 * count)), label="blocks")
    tables = [blocks[4 * i : 4 * i + 4] for i in range(count)]
    cache, done = answer.PagedKvCache(4 * count, BLOCK), [0] * count
    stored = [[mx.zeros((1, KV, 0, DIM))] * 2 for _ in range(count)]
    for seed in range(data.draw(st.integers(1, 5), label="steps")):
        sizes = [data.draw(st.integers(0, 16 - d), label=f"new tokens of sequence {i}") for i, d in enumerate(done)]
        spans = [Span(d, d + size, table) for d, size, table in zip(done, sizes, tables, strict=True) if size]
        if not spans:
            continue
        new = new_tokens(sum(sizes), seed)
        write(cache, spans, *new)
        place = 0
        for i, size in enumerate(sizes):
            parts = [x[:, :, place : place + size] for x in new]
            stored[i] = [mx.concatenate(pair, axis=2) for pair in zip(stored[i], parts, strict=True)]
            place, done[i] = place + size, done[i] + size
        for i in range(count):
            assert_holds(cache, tables[i], *stored[i], f"after step {seed + 1}, sequence {i}")


@pytest.mark.parametrize("dtype", HALF)
def test_task_3_half_precision_stays_half(dtype: mx.Dtype) -> None:
    cache, (k, v) = answer.PagedKvCache(4, BLOCK), new_tokens(6, 1, dtype)
    write(cache, [Span(0, 6, [3, 0])], k, v)
    keys, values = held(cache, [3, 0], 6)
    assert (keys.dtype, values.dtype) == (dtype, dtype), f"keys and values of {dtype} are stored as they are"
    assert_holds(cache, [3, 0], k, v, "in half precision")


@pytest.mark.parametrize(("start", "end"), [(0, 5), (0, 1), (3, 6), (4, 6)])
def test_task_3_the_rest_of_a_block_that_is_begun_is_zero(start: int, end: int) -> None:
    cache, before_k, before_v = filled(4)
    poison = mx.full((1, KV, 2 * BLOCK, DIM), mx.nan)
    write(cache, [Span(0, 8, [3, 1])], poison, poison)
    if start:
        write(cache, [Span(0, start, [3])], *new_tokens(start, 1))
    write(cache, [Span(start, end, [3, 1])], *new_tokens(end - start, 2))
    begun = -(-end // BLOCK) * BLOCK
    for name, part in zip(("keys", "values"), cache.fetch(mx.array([[3, 1]])), strict=True):
        rest = part[:, :, end:begun]
        assert_close(rest, mx.zeros_like(rest), f"{name} after token {end - 1}, where an earlier owner had left NaN", 0.0)
    k, v = (mx.concatenate([x[:, :, :4], x[:, :, 8:12]], axis=2) for x in (before_k, before_v))
    assert_holds(cache, [0, 2], k, v, "blocks of others keep what they hold")


def test_task_3_only_fresh_slots_become_zero() -> None:
    cache, before_k, before_v = filled(4)
    k, v = new_tokens(1, 1)
    write(cache, [Span(1, 2, [2])], k, v)
    want_k, want_v = (mx.concatenate([x[:, :, 8:9], y, x[:, :, 10:12]], axis=2) for x, y in ((before_k, k), (before_v, v)))
    assert_holds(cache, [2], want_k, want_v, "a token in the middle of a block, with no fresh slots, changes its own slot only")


def test_task_3_what_was_fetched_does_not_change() -> None:
    cache, k, v = filled(4)
    fetched = cache.fetch(mx.array([[1, 2]]))
    write(cache, [Span(0, 8, [1, 2])], *new_tokens(8, 1))
    mx.eval(cache.fetch(mx.array([[1, 2]])))
    for got, want in zip(fetched, (k, v), strict=True):
        assert_close(got, want[:, :, 4:12], "keys and values that were fetched before belong to the reader", 0.0)


def test_task_3_two_caches_share_nothing() -> None:
    cache, k, v = filled(4)
    other, _, _ = filled(4, seed=3)
    write(other, [Span(0, 8, [0, 1])], *new_tokens(8, 1))
    assert_holds(cache, [0, 1, 2, 3], k, v, "another layer's cache was written")


def test_task_3_without_a_batch_nobody_knows_where() -> None:
    cache = answer.PagedKvCache(4, BLOCK)
    with refuses(RuntimeError, "`batch` has not been set", named="batch"):
        cache.write(*new_tokens(1, 1))


# Copying a block


def test_task_3_a_copy_is_the_whole_block() -> None:
    cache, k, v = filled(5)
    cache.copy_block(3, 1)
    assert_holds(cache, [1], k[:, :, 12:16], v[:, :, 12:16], "block 3 copied to block 1")
    others_k, others_v = (mx.concatenate([x[:, :, :4], x[:, :, 8:]], axis=2) for x in (k, v))
    assert_holds(cache, [0, 2, 3, 4], others_k, others_v, "all but block 1 stay as they are, the source too")


def test_task_3_a_copy_goes_its_own_way() -> None:
    cache, *_ = filled(5)
    write(cache, [Span(2, 3, [4])], *new_tokens(1, 1))
    source = held(cache, [4], 4)
    cache.copy_block(4, 0)
    write(cache, [Span(3, 4, [4])], *new_tokens(1, 2))
    assert_holds(cache, [0], *source, "what is written into the source later is not in the copy")
    target_k, target_v = new_tokens(1, 3)
    later = held(cache, [4], 4)
    write(cache, [Span(1, 2, [0])], target_k, target_v)
    assert_holds(cache, [4], *later, "what is written into the copy is not in the source")
    want = [mx.concatenate([x[:, :, :1], y, x[:, :, 2:]], axis=2) for x, y in zip(source, (target_k, target_v), strict=True)]
    assert_holds(cache, [0], *want, "the copy goes on from what it held")


def test_task_3_copies_follow_each_other() -> None:
    cache, k, v = filled(4)
    for source, target in ((0, 1), (1, 2), (2, 3)):
        cache.copy_block(source, target)
    assert_holds(cache, [1, 2, 3], *(mx.concatenate([x[:, :, :4]] * 3, axis=2) for x in (k, v)), "block 0 to 1, to 2, to 3")


def test_task_3_before_the_first_write_there_is_nothing_to_copy() -> None:
    cache, (k, v) = answer.PagedKvCache(4, BLOCK), new_tokens(4, 1)
    cache.copy_block(0, 1)
    write(cache, [Span(0, 4, [2])], k, v)
    assert_holds(cache, [2], k, v, "after a copy that had nothing to copy")


# In place


POOL_BLOCKS = 20_000
"""Two pools of 5 MB each, next to which a step's own arrays are small."""


def peak_share(rounds: Callable[[Any], None]) -> float:
    """What a cache takes at most while `rounds(cache)` runs, as a share of its two pools."""
    mx.synchronize()
    before = mx.get_active_memory()
    cache = answer.PagedKvCache(POOL_BLOCKS, BLOCK)
    write(cache, [Span(0, 3, [7])], *new_tokens(3, 1))
    mx.eval(cache.fetch(mx.array([[7]])))
    mx.synchronize()
    mx.reset_peak_memory()  # making the pools may take more
    rounds(cache)
    mx.synchronize()
    return (mx.get_peak_memory() - before) / (2 * POOL_BLOCKS * BLOCK * KV * DIM * 4)


def decode(cache: Any, at: int) -> tuple[mx.array, mx.array]:
    write(cache, [Span(at, at + 1, range(100, 120))], *new_tokens(1, at))
    return cache.fetch(mx.array([[100, 101]]))


def test_task_3_pools_are_written_in_place() -> None:
    def rounds(cache: Any) -> None:
        for at in range(40):
            mx.eval(decode(cache, at))

    share = peak_share(rounds)
    assert share < 1.1, (
        f"in 40 steps of one token a cache took up to {share:.0%} of what its pools take: write the new tokens into the pool"
        " (`pool[:, slots] = …`), and keep no older version of it alive, such as a slice of it"
    )


def test_task_3_a_block_is_copied_in_place() -> None:
    def rounds(cache: Any) -> None:
        for at in range(10):
            cache.copy_block(7, 8 + at)
            mx.eval(decode(cache, at))

    share = peak_share(rounds)
    assert share < 1.1, (
        f"with a block copied before each of 10 steps, a cache took up to {share:.0%} of what its pools take: as long as the"
        " source has still to be read, a write copies the whole pool, so evaluate what was read first"
    )
