"""Week 3 Day 5, task 7: a paged cache whose pools hold integers. What day 1 asked of a cache holds of this one, too."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from launching_ahead import waits_for_nothing
from oracles import HALF, assert_close, attention64, causal64, normal, to_numpy
from ragged import Span, make_batch
from support import refuses
from week3.day5_speculation.quantized_checks import assert_near, assert_same, roundtrip, store_once, unreadable

H, KV, DIM, BLOCK, SCALE = 4, 2, 64, 4, 0.2
each_bits = pytest.mark.parametrize("bits", [8, 4])


def new_tokens(count: int, seed: int, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    """Keys and values `(1, KV, count, D)`; values are larger, so that they are not confused."""
    return normal(1, KV, count, DIM, seed=2 * seed, dtype=dtype), normal(
        1, KV, count, DIM, seed=2 * seed + 1, dtype=dtype, size=9
    )


def write(cache: Any, spans: Sequence[Span], k: mx.array, v: mx.array) -> None:
    """Write the tokens of these spans, one span after another."""
    cache.batch = make_batch(spans, BLOCK)
    cache.write(k, v)


def held(cache: Any, table: Sequence[int], tokens: int) -> list[mx.array]:
    """Keys and values `(1, KV, tokens, D)` of a sequence."""
    return [part[:, :, :tokens] for part in cache.fetch(mx.array([list(table)]))]


def assert_holds(cache: Any, table: Sequence[int], k: mx.array, v: mx.array, bits: int, hint: str) -> None:
    """The blocks hold exactly what each of these tokens is when it is quantized alone."""
    __tracebackhide__ = True
    for name, got, want in zip(("keys", "values"), held(cache, table, k.shape[2]), (k, v), strict=True):
        assert_same(got, roundtrip(want, bits), f"{hint}: {name} of the blocks {list(table)}")


def filled(bits: int, num_blocks: int = 6) -> tuple[Any, mx.array, mx.array]:
    """A cache all of whose blocks are written, in order, and its keys and values."""
    cache, (k, v) = answer.QuantizedKvCache(num_blocks, BLOCK, bits), new_tokens(num_blocks * BLOCK, 9)
    write(cache, [Span(0, num_blocks * BLOCK, range(num_blocks))], k, v)
    return cache, k, v


# What is stored


@each_bits
@pytest.mark.parametrize("dtype", [mx.float32, *HALF])
def test_task_7_what_is_written_comes_back_through_the_table(bits: int, dtype: mx.Dtype) -> None:
    cache, (k, v) = answer.QuantizedKvCache(8, BLOCK, bits), new_tokens(6, 1, dtype)
    write(cache, [Span(0, 6, [5, 2])], k, v)
    for name, got, want in zip(("keys", "values"), held(cache, [5, 2], 6), (k, v), strict=True):
        assert_near(got, want, bits, f"{name} of 6 tokens in 2 blocks of 4, as {dtype}")


@each_bits
def test_task_7_a_stored_token_never_changes(bits: int) -> None:
    cache, (k, v) = answer.QuantizedKvCache(8, BLOCK, bits), new_tokens(11, 2)
    table, cuts = [6, 1, 3], (0, 3, 4, 5, 9, 10, 11)
    for start, end in pairwise(cuts):
        beside = new_tokens(2, 100 + start)
        new = [mx.concatenate([x[:, :, start:end], 1000 * y], axis=2) for x, y in zip((k, v), beside, strict=True)]
        write(cache, [Span(start, end, table), Span(0, 2, [7])], *new)
        hint = f"in chunks of a prompt and token by token, next to others whose numbers are large; {end} tokens were written"
        assert_holds(cache, table, k[:, :, :end], v[:, :, :end], bits, hint)


@each_bits
def test_task_7_each_row_of_a_table_gives_its_own_blocks(bits: int) -> None:
    cache, k, v = filled(bits)
    got = cache.fetch(mx.array([[4, 1], [0, 5]], dtype=mx.int32))
    for name, part, x in zip(("keys", "values"), got, (k, v), strict=True):
        blocks = to_numpy(roundtrip(x, bits))[0].reshape(KV, 6, BLOCK, DIM)
        want = np.stack([np.concatenate([blocks[:, b] for b in row], axis=1) for row in ([4, 1], [0, 5])])
        assert_same(part, mx.array(want), f"{name} of two rows of 2 blocks: (rows, KV, blocks · block_size, D)")


@each_bits
@pytest.mark.parametrize("end", [1, 5, 6])
def test_task_7_the_rest_of_a_block_that_is_begun_is_zero(bits: int, end: int) -> None:
    cache, k, v = filled(bits)
    poison = mx.full((1, KV, 2 * BLOCK, DIM), mx.nan)
    write(cache, [Span(0, 8, [3, 1])], poison, poison)
    write(cache, [Span(0, end, [3, 1])], *new_tokens(end, 2))
    begun = -(-end // BLOCK) * BLOCK
    for name, part in zip(("keys", "values"), cache.fetch(mx.array([[3, 1]])), strict=True):
        rest = part[:, :, end:begun]
        hint = f"{name} after token {end - 1}, where an earlier owner had left NaN, which is in scales and biases"
        assert_same(rest, mx.zeros_like(rest), hint)
    rest_k, rest_v = (mx.concatenate([x[:, :, :4], x[:, :, 8:12]], axis=2) for x in (k, v))
    assert_holds(cache, [0, 2], rest_k, rest_v, bits, "blocks of others keep what they hold")


@each_bits
def test_task_7_a_copy_is_the_whole_block(bits: int) -> None:
    cache, k, v = filled(bits)
    cache.copy_block(3, 1)
    copied = [mx.concatenate([x[:, :, :4], x[:, :, 12:16], x[:, :, 8:]], axis=2) for x in (k, v)]
    assert_holds(cache, range(6), *copied, bits, "block 3 copied to block 1: integers, scales and biases as they are")
    new = new_tokens(1, 3)
    write(cache, [Span(1, 2, [1])], *new)
    after = [mx.concatenate([x[:, :, :5], y, x[:, :, 6:]], axis=2) for x, y in zip(copied, new, strict=True)]
    assert_holds(cache, range(6), *after, bits, "what is written into the copy is not in the source")


@each_bits
def test_task_7_before_the_first_write_there_is_nothing_to_copy(bits: int) -> None:
    cache, (k, v) = answer.QuantizedKvCache(4, BLOCK, bits), new_tokens(4, 1)
    cache.copy_block(0, 1)
    write(cache, [Span(0, 4, [2])], k, v)
    assert_holds(cache, [2], k, v, bits, "after a copy that had nothing to copy")


@pytest.mark.parametrize("group_size", [16, 64])
def test_task_7_other_groups(group_size: int) -> None:
    cache, (k, v) = answer.QuantizedKvCache(4, BLOCK, 4, group_size), new_tokens(6, 1)
    write(cache, [Span(0, 6, [3, 0])], k, v)
    for name, got, want in zip(("keys", "values"), held(cache, [3, 0], 6), (k, v), strict=True):
        assert_near(got, want, 4, f"{name} in groups of {group_size}", group_size)


def test_task_7_heads_that_cannot_be_cut_are_refused() -> None:
    store_once()
    cache = answer.QuantizedKvCache(4, BLOCK, 8)
    one = normal(1, KV, 1, 48, seed=1)
    cache.batch = make_batch([Span(0, 1, [0])], BLOCK)
    with refuses(ValueError, "heads of 48 numbers can't be cut into groups of 32", named="48"):
        cache.write(one, one)


def test_task_7_without_a_batch_nobody_knows_where() -> None:
    store_once()
    cache = answer.QuantizedKvCache(4, BLOCK, 8)
    with refuses(RuntimeError, "`batch` has not been set", named="batch"):
        cache.write(*new_tokens(1, 1))


# Attention


MIXED = [(5, 6, [9, 3]), (3, 4, [14]), (8, 9, [1, 12, 6]), (4, 9, [0, 15, 8]), (0, 6, [2, 11])]
"""Three decodes, a chunk in the middle of a prompt, a whole prompt."""


def attend(bits: int, spans: Sequence[tuple[int, int, Sequence[int]]], seed: int = 0) -> tuple[mx.array, np.ndarray]:
    """What a step of these sequences gives, and what each gives alone over its rounded keys and values."""
    made = [Span(*span) for span in spans]
    q = [normal(1, H, span.end, DIM, seed=seed + 50 + i) for i, span in enumerate(made)]
    k, v = zip(*(new_tokens(span.end, seed + i) for i, span in enumerate(made)), strict=True)
    cache = answer.QuantizedKvCache(16, BLOCK, bits)
    for i, span in enumerate(made):
        if span.start:
            write(cache, [Span(0, span.start, span.table)], k[i][:, :, : span.start], v[i][:, :, : span.start])
    cache.batch = make_batch(made, BLOCK)
    step = [mx.concatenate([x[i][:, :, s.start : s.end] for i, s in enumerate(made)], axis=2) for x in (q, k, v)]
    alone = [
        attention64(
            q[i][:, :, s.start :], roundtrip(k[i], bits), roundtrip(v[i], bits), SCALE, causal64(s.end - s.start, s.end)
        )
        for i, s in enumerate(made)
    ]
    return cache.attend(*step, SCALE), np.concatenate(alone, axis=2)


@each_bits
def test_task_7_a_step_attends_over_what_is_stored(bits: int) -> None:
    got, want = attend(bits, MIXED)
    assert_close(got, want, "decodes and chunks attend over rounded keys and values, those of this step, too")


@each_bits
@pytest.mark.parametrize("cut", [1, 4, 6, 8])
def test_task_7_a_prompt_in_chunks_sees_what_it_sees_in_one_piece(bits: int, cut: int) -> None:
    whole, want = attend(bits, [(0, 9, [4, 0, 7])])
    _, first = attend(bits, [(0, cut, [4, 0, 7])])
    late, _ = attend(bits, [(cut, 9, [13, 2, 5])])
    assert_close(whole, want, "a prompt in one piece")
    assert first.shape[2] + late.shape[2] == 9
    hint = f"tokens {cut} to 8 of a prompt, whose first {cut} were a chunk of an earlier step: a chunk attends over its own"
    assert_close(late, want[:, :, cut:], f"{hint} tokens as they are stored, since the next one has nothing else")


@each_bits
def test_task_7_a_neighbour_s_nan_stays_its_own(bits: int) -> None:
    cache = answer.QuantizedKvCache(8, BLOCK, bits)
    (k, v), q = new_tokens(3, 1), normal(1, H, 3, DIM, seed=5)
    outs = []
    for bad in (0.0, mx.nan):
        sick_k, sick_v = (mx.concatenate([x[:, :, :1], x[:, :, 1:2] + bad, x[:, :, 2:]], axis=2) for x in (k, v))
        cache.batch = make_batch([Span(0, 1, [3]), Span(0, 1, [6]), Span(0, 1, [1])], BLOCK)
        outs.append(cache.attend(q, sick_k, sick_v, SCALE))
    for row in (0, 2):
        assert_same(outs[1][:, :, row], outs[0][:, :, row], "the key and the value of a neighbour in the same step are NaN")
    assert mx.isnan(outs[1][:, :, 1]).all(), "the row whose own key and value are NaN has to show it"


@pytest.mark.parametrize("dtype", HALF)
def test_task_7_half_precision_stays_half(dtype: mx.Dtype) -> None:
    cache, (k, v) = answer.QuantizedKvCache(4, BLOCK, 8), new_tokens(6, 1, dtype)
    cache.batch = make_batch([Span(0, 6, [3, 0])], BLOCK)
    out = cache.attend(normal(1, H, 6, DIM, seed=3, dtype=dtype), k, v, SCALE)
    assert out.dtype == dtype, f"queries, keys and values are {dtype}, and so is what comes out, not {out.dtype}"


@each_bits
def test_task_7_a_step_waits_for_nothing(bits: int) -> None:
    cache, (k, v), q = answer.QuantizedKvCache(8, BLOCK, bits), new_tokens(6, 1), normal(1, H, 6, DIM, seed=3)
    k, v, q = (unreadable(x) for x in (k, v, q))
    with waits_for_nothing("a step over a QuantizedKvCache"):
        for spans in ([Span(0, 6, [3, 0])], [Span(0, 2, [1]), Span(4, 8, [2, 6])]):
            cache.batch = make_batch(spans, BLOCK)
            cache.attend(q, k, v, SCALE)


# Memory


SIZES = [(8, mx.float32, 480), (4, mx.float32, 288), (8, mx.float16, 432), (4, mx.bfloat16, 240)]


@pytest.mark.parametrize(("bits", "dtype", "size"), SIZES)
def test_task_7_bytes_per_token(bits: int, dtype: mx.Dtype, size: int) -> None:
    cache = answer.QuantizedKvCache(5, BLOCK, bits)
    assert cache.bytes_per_token == 0, "before anything was written there are no pools"
    one = normal(1, 3, 1, 64, seed=1, dtype=dtype)
    write(cache, [Span(0, 1, [2])], one, one)
    assert cache.bytes_per_token == size, (
        f"2 · 3 · 64 = 384 numbers per token in {bits} bits, and 12 scales and biases of {dtype}: {size} bytes, not"
        f" {cache.bytes_per_token}"
    )


POOL_BLOCKS = 10_000


def peak_share(bits: int, rounds: Callable[[Any], None]) -> tuple[float, float]:
    """What a cache takes, and what it takes at most while `rounds(cache)` runs: shares of what its numbers take packed."""
    store_once()
    mx.synchronize()
    before = mx.get_active_memory()
    cache = answer.QuantizedKvCache(POOL_BLOCKS, BLOCK, bits)
    write(cache, [Span(0, 3, [7])], *new_tokens(3, 1))
    mx.eval(cache.fetch(mx.array([[7]])))
    mx.synchronize()
    wanted = POOL_BLOCKS * BLOCK * 2 * KV * DIM * (bits + 2) / 8
    there = mx.get_active_memory() - before
    mx.reset_peak_memory()  # making the pools may take more
    rounds(cache)
    mx.synchronize()
    return there / wanted, (mx.get_peak_memory() - before) / wanted


def step(cache: Any, at: int) -> mx.array:
    cache.batch = make_batch([Span(at, at + 1, range(100, 120))], BLOCK)
    return cache.attend(normal(1, H, 1, DIM, seed=at), *new_tokens(1, at), SCALE)


@each_bits
def test_task_7_memory_holds_the_small_pools_and_no_more(bits: int) -> None:
    def rounds(cache: Any) -> None:
        for at in range(40):
            mx.eval(step(cache, at))

    there, peak = peak_share(bits, rounds)
    assert there < 1.1, f"a cache of {bits} bits takes {there:.0%} of its integers, scales and biases: what else does it hold?"
    assert peak < 1.1, (
        f"in 40 steps of one token a cache took up to {peak:.0%} of what its pools take: the pools are written in place, no"
        " older version of them is kept, and only blocks of the table become numbers again"
    )


@each_bits
def test_task_7_a_block_is_copied_in_place(bits: int) -> None:
    def rounds(cache: Any) -> None:
        for at in range(10):
            cache.copy_block(7, 8 + at)
            mx.eval(step(cache, at))

    _, peak = peak_share(bits, rounds)
    assert peak < 1.1, f"with a block copied before each of 10 steps, a cache took up to {peak:.0%} of what its pools take"
