"""Week 3 Day 1, task 4: attention through block tables equals attention over whole sequences, wherever the blocks are."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from oracles import HALF, assert_close, attention64, causal64, normal, to_numpy
from ragged import Span, attend_once, make_batch
from support import refuses

H, KV, DIM, BLOCK, SCALE = 4, 2, 8, 4, 0.3


@dataclass
class Case:
    """Sequences of random queries, keys and values, and a step in which each has new tokens."""

    spans: list[Span]
    q: list[mx.array]
    k: list[mx.array]
    v: list[mx.array]

    def step(self, name: str) -> mx.array:
        """The new tokens of all, one sequence after another."""
        return mx.concatenate([x[:, :, s.start : s.end] for x, s in zip(getattr(self, name), self.spans, strict=True)], axis=2)

    def prepare(self, cache: Any) -> None:
        """Write what the sequences hold before the step, and set the step's batch."""
        for span, k, v in zip(self.spans, self.k, self.v, strict=True):
            if span.start:
                cache.batch = make_batch([Span(0, span.start, span.table)], BLOCK)
                cache.write(k[:, :, : span.start], v[:, :, : span.start])
        cache.batch = make_batch(self.spans, BLOCK)

    def attend(self, cache: Any, **options: Any) -> mx.array:
        return cache.attend(self.step("q"), self.step("k"), self.step("v"), SCALE, **options)

    def expected(self) -> np.ndarray:
        """Each sequence's new queries over all of its own keys, in float64."""
        parts = [
            attention64(q[:, :, s.start : s.end], k, v, SCALE, causal64(s.end - s.start, s.end))
            for s, q, k, v in zip(self.spans, self.q, self.k, self.v, strict=True)
        ]
        return np.concatenate(parts, axis=2)


def make_case(spans: Sequence[tuple[int, int, Sequence[int]]], seed: int = 0, dtype: mx.Dtype = mx.float32) -> Case:
    attend_once()
    made = [Span(*span) for span in spans]
    q, k, v = (
        [normal(1, heads, span.end, DIM, seed=100 * seed + 3 * i + part, dtype=dtype) for i, span in enumerate(made)]
        for part, heads in enumerate((H, KV, KV))
    )
    return Case(made, q, k, v)


MIXED = [(5, 6, [9, 3]), (3, 4, [14]), (8, 9, [1, 12, 6]), (4, 9, [0, 15, 8]), (0, 6, [2, 11])]
"""Three decodes, of which one fills its block and one begins one; a chunk in the middle of a prompt; a whole prompt."""


def test_task_4_each_sequence_attends_over_its_own_blocks() -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(MIXED)
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), "three decodes and two prompt chunks in one call, in the batch's order")


@pytest.mark.parametrize("order", [[4, 3, 0, 1, 2], [0, 4, 1, 2, 3], [2, 3, 1, 4, 0]], ids=str)
def test_task_4_groups_may_come_in_any_order(order: list[int]) -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case([MIXED[i] for i in order])
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), "decodes and prompt chunks in another order")


@pytest.mark.parametrize("tokens", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 2 * BLOCK + 1])
@pytest.mark.parametrize("new", ["one token", "all tokens"])
def test_task_4_at_the_edge_of_a_block(tokens: int, new: str) -> None:
    cache = answer.PagedKvCache(6, BLOCK)
    start = tokens - 1 if new == "one token" else 0
    case = make_case([(start, tokens, [4, 0, 3][: -(-tokens // BLOCK)]), (start, tokens, [5, 1, 2])])
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), f"two sequences of {tokens} tokens in blocks of {BLOCK}, {new} new")


@settings(max_examples=25)
@given(st.data())
def test_task_4_any_lengths_in_any_blocks(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 5), label="sequences")
    blocks = data.draw(st.permutations(range(4 * count)), label="blocks")
    spans = []
    for i in range(count):
        end = data.draw(st.integers(1, 16), label=f"tokens of sequence {i}")
        start = data.draw(st.one_of(st.just(end - 1), st.integers(0, end - 1)), label="of which were there before")
        spans.append((start, end, blocks[4 * i : 4 * i + 4]))
    cache, case = answer.PagedKvCache(4 * count, BLOCK), make_case(spans)
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), f"sequences of (before, after, blocks) {spans}")


def test_task_4_step_after_step() -> None:
    cache = answer.PagedKvCache(8, BLOCK)
    tables, count = [[6, 1, 4], [0, 7, 2]], 11
    whole = make_case([(0, count, table) for table in tables])
    outs: list[list[mx.array]] = [[], []]
    for at in range(count):
        step = Case([Span(at, at + 1, table) for table in tables], whole.q, whole.k, whole.v)
        cache.batch = make_batch(step.spans, BLOCK)
        out = step.attend(cache)
        for i in range(2):
            outs[i].append(out[:, :, i : i + 1])
    got = mx.concatenate([mx.concatenate(parts, axis=2) for parts in outs], axis=2)
    assert_close(got, whole.expected(), "two sequences, token by token: each step has a batch of its own")


def test_task_4_a_prefix_may_be_shared() -> None:
    cache = answer.PagedKvCache(8, BLOCK)
    case = make_case([(0, 8, [3, 6]), (8, 11, [3, 6, 0]), (8, 9, [3, 6, 5])])
    for x in (case.k, case.v):
        x[1:] = [mx.concatenate([x[0], part[:, :, 8:]], axis=2) for part in x[1:]]
    first = Case(case.spans[:1], case.q[:1], case.k[:1], case.v[:1])
    first.prepare(cache)
    first.attend(cache)
    two = Case(case.spans[1:], case.q[1:], case.k[1:], case.v[1:])
    cache.batch = make_batch(two.spans, BLOCK)
    assert_close(two.attend(cache), two.expected(), "two sequences go on from the same two blocks")


def test_task_4_a_block_that_is_shared_in_part_is_copied_first() -> None:
    cache, case = answer.PagedKvCache(8, BLOCK), make_case([(0, 6, [3, 6]), (6, 8, [3, 6]), (6, 8, [3, 1])])
    for x in (case.k, case.v):
        x[1:] = [mx.concatenate([x[0], part[:, :, 6:]], axis=2) for part in x[1:]]
    first = Case(case.spans[:1], case.q[:1], case.k[:1], case.v[:1])
    first.prepare(cache)
    first.attend(cache)
    cache.copy_block(6, 1)
    two = Case(case.spans[1:], case.q[1:], case.k[1:], case.v[1:])
    cache.batch = make_batch(two.spans, BLOCK)
    assert_close(two.attend(cache), two.expected(), "block 6 was copied to block 1, and each goes on in a block of its own")


# What must not matter


@pytest.mark.parametrize("mask", ["causal", mx.full((3, 3), -mx.inf)], ids=["causal", "array"])
def test_task_4_the_models_mask_is_not_looked_at(mask: Any) -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(MIXED)
    case.prepare(cache)
    assert_close(case.attend(cache, mask=mask), case.expected(), f"mask={mask}: each group has a mask of its own")


@pytest.mark.parametrize("left", [1e30, -1e30])
def test_task_4_what_lies_in_other_blocks_does_not_matter(left: float) -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(MIXED)
    everything = mx.full((1, KV, 16 * BLOCK, DIM), left)
    cache.batch = make_batch([Span(0, 16 * BLOCK, range(16))], BLOCK)
    cache.write(everything, everything)
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), f"all blocks held {left:g} before: an earlier owner left it")


def test_task_4_nan_of_an_earlier_owner_does_not_matter() -> None:
    spans = [(start, end, [*table, 13, 10]) for start, end, table in MIXED]  # with blocks that are not begun
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(spans)
    everything = mx.full((1, KV, 16 * BLOCK, DIM), mx.nan)
    cache.batch = make_batch([Span(0, 16 * BLOCK, range(16))], BLOCK)
    cache.write(everything, everything)
    case.prepare(cache)
    assert_close(case.attend(cache), case.expected(), "all blocks held NaN before: read the table's blocks and no others")


@pytest.mark.parametrize("who", range(5))
def test_task_4_nan_of_a_neighbour_stays_with_it(who: int) -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(MIXED)
    case.k[who] = case.v[who] = mx.full(case.k[who].shape, mx.nan)
    case.prepare(cache)
    got, want = case.attend(cache), case.expected()
    places = [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 8), slice(8, 14)]
    for row in sorted({0, 1, 2, 3, 4} - {who}):
        hint = f"sequence {row}, while sequence {who} of the same step holds NaN"
        assert_close(got[:, :, places[row]], want[:, :, places[row]], hint)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("operators", ["ARRAYS", "MLX"])
def test_task_4_half_precision_stays_half(dtype: mx.Dtype, operators: str) -> None:
    cache, case = answer.PagedKvCache(16, BLOCK), make_case(MIXED, dtype=dtype)
    case.prepare(cache)
    got = case.attend(cache, attention=getattr(answer, operators).attention)
    assert got.dtype == dtype, f"queries, keys and values are {dtype}, and so is what comes out, not {got.dtype}"
    assert_close(got, case.expected(), f"in {dtype}", HALF[dtype])


def test_task_4_without_a_batch_nobody_knows_who_asks() -> None:
    cache, one = answer.PagedKvCache(4, BLOCK), normal(1, KV, 1, DIM, seed=1)
    with refuses(RuntimeError, "`batch` has not been set", named="batch"):
        cache.attend(normal(1, H, 1, DIM, seed=2), one, one, SCALE)


# Who computes


def test_task_4_attention_is_the_models_own_and_called_once_per_group() -> None:
    cache, case, calls = answer.PagedKvCache(16, BLOCK), make_case(MIXED), []

    def attention(q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any, lengths: Any) -> mx.array:
        calls.append((q.shape, k.shape, v.shape))
        return -q

    case.prepare(cache)
    got = case.attend(cache, attention=attention)
    wanted = [((3, H, 1, DIM), 12), ((1, H, 5, DIM), 12), ((1, H, 6, DIM), 8)]
    want = [(q, (q[0], KV, length, DIM), (q[0], KV, length, DIM)) for q, length in wanted]
    assert [tuple(map(tuple, call)) for call in calls] == want, (
        f"`attention` is called once per group, with queries (rows, H, queries, D), keys and values (rows, KV, S, D): {calls}"
    )
    assert_close(got, -to_numpy(case.step("q")), "what `attention` returns, here −q, comes back in the order of the batch")


def paged_attention64(
    q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: mx.array, lengths: mx.array, scale: float
) -> mx.array:
    """What a kernel computes that walks the tables, row by row."""
    rows = []
    for row, (table, length) in enumerate(zip(tables.tolist(), lengths.tolist(), strict=True)):
        k, v = (
            np.concatenate([to_numpy(pool)[:, block] for block in table], axis=1)[None, :, :length] for pool in (k_pool, v_pool)
        )
        rows.append(attention64(q[row : row + 1], k, v, scale, causal64(q.shape[2], length)))
    return mx.array(np.concatenate(rows), dtype=q.dtype)


def test_task_4_a_kernel_attends_where_the_blocks_lie() -> None:
    shapes = []

    def kernel(q: mx.array, k_pool: mx.array, v_pool: mx.array, tables: mx.array, lengths: mx.array, scale: float) -> mx.array:
        shapes.append((k_pool.shape, v_pool.shape))
        return paged_attention64(q, k_pool, v_pool, tables, lengths, scale)

    def never(*arguments: Any) -> mx.array:
        raise AssertionError("`paged_attention` was given to the cache: it attends, and the model's attention is not called")

    cache, case = answer.PagedKvCache(16, BLOCK, kernel), make_case(MIXED)
    case.prepare(cache)
    got = case.attend(cache, attention=never)
    assert len(shapes) == 3, f"the kernel is called once for each of 3 groups, not {len(shapes)} times"
    pools = (KV, 16, BLOCK, DIM)
    assert shapes[0] == (pools, pools), f"the kernel is given pools (KV, num_blocks, block_size, D), {pools}, not {shapes[0]}"
    hint = "the kernel is given a group's queries, the pools with the new tokens in them, the group's table and lengths"
    assert_close(got, case.expected(), hint)


def test_task_4_a_step_costs_no_copy_of_the_pools() -> None:
    num_blocks = 20_000
    case = make_case([(0, 9, [4, 7, 1])])
    more = make_case([(at, at + 1, [4, 7, 1, *range(100, 140)]) for at in range(9, 49)])
    mx.eval(case.q, case.k, case.v, more.q, more.k, more.v)
    mx.synchronize()
    before = mx.get_active_memory()
    cache = answer.PagedKvCache(num_blocks, BLOCK)
    case.prepare(cache)
    mx.eval(case.attend(cache))
    mx.synchronize()
    mx.reset_peak_memory()  # making the pools may take more
    for at, span in enumerate(more.spans):
        step = Case([span], more.q[at : at + 1], more.k[at : at + 1], more.v[at : at + 1])
        cache.batch = make_batch(step.spans, BLOCK)
        mx.eval(step.attend(cache))
    mx.synchronize()
    share = (mx.get_peak_memory() - before) / (2 * num_blocks * BLOCK * KV * DIM * 4)
    assert share < 1.1, (
        f"in 40 steps a cache took up to {share:.0%} of what its pools take: only the blocks in the table are gathered, and no"
        " older version of a pool is kept"
    )
