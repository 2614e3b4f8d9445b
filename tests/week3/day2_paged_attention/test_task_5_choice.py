"""Week 3 Day 2, task 5: which kernel `paged_attention` takes, and that it is right whichever it is."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import assert_close, normal
from ragged import Span, make_batch
from support import refuses
from week2.day4_flash_attention.kernel_checks import bytes_read
from week3.day2_paged_attention.paged_checks import (
    CAUSAL,
    WHERE,
    check_formula,
    check_invalid_tails,
    check_refusals,
    check_scale,
    check_what_is_not_read,
    make_paged,
    threads_of,
)


@pytest.mark.parametrize(
    ("rows", "kv_heads", "tokens", "parts"),
    [
        (1, 1, 16, 1),
        (1, 1, 511, 1),
        (1, 1, 512, 2),
        (1, 1, 1023, 2),
        (1, 1, 1024, 4),
        (1, 1, 2**20, 32),
        (1, 8, 2**20, 32),
        (3, 3, 2**20, 32),
        (8, 8, 2**20, 4),
        (8, 8, 700, 2),
        (100, 1, 2**20, 4),
        (16, 8, 2**20, 2),
        (51, 5, 2**20, 2),
        (32, 8, 2**20, 1),
        (1000, 1, 2**20, 1),
    ],
)
def test_task_5_how_many_parts(rows: int, kv_heads: int, tokens: int, parts: int) -> None:
    got = answer.choose_parts(rows, kv_heads, tokens)
    assert got == parts, (
        f"{rows} rows of {kv_heads} key/value heads, tables for {tokens} tokens: {got} parts, expected {parts}. Double them "
        "while there are fewer than ENOUGH_THREADGROUPS threadgroups, and twice as many parts have LEAST_PART tokens each"
    )


@pytest.mark.parametrize("queries", [1, 2, 9])
def test_task_5_one_query_or_several(queries: int) -> None:
    paged = make_paged([queries, 33], queries=queries)
    check_formula(answer.paged_attention, paged, f"{WHERE}; {CAUSAL}")


def test_task_5_long_contexts_are_split() -> None:
    paged = make_paged([1000], heads=1, kv_heads=1, block_size=32)
    check_formula(answer.paged_attention, paged, "one row of 1000 tokens, in parts")
    chosen, whole = threads_of(answer.paged_attention, paged), threads_of(answer.paged_attention_decode, paged)
    assert chosen >= 4 * whole, (
        f"one row with a table for 1056 tokens goes to 4 parts: {chosen} threads, {whole} without a split"
    )


def test_task_5_short_contexts_are_not_split() -> None:
    paged = make_paged([100, 33])
    k_pool, v_pool = (mx.pad(pool, [(0, 0), (0, 200), (0, 0), (0, 0)]) for pool in (paged.k_pool, paged.v_pool))
    paged = replace(paged, k_pool=k_pool, v_pool=v_pool)
    chosen, whole = threads_of(answer.paged_attention, paged), threads_of(answer.paged_attention_decode, paged)
    assert chosen == whole, (
        f"two short rows, in tables for 144 tokens, of a large pool: {chosen} threads, {whole} in paged_attention_decode, "
        "which has nothing to merge"
    )


def test_task_5_key_value_heads_are_counted_and_not_query_heads() -> None:
    paged = make_paged([3, 2], heads=128, kv_heads=1, spare=40)
    chosen, whole = threads_of(answer.paged_attention, paged), threads_of(answer.paged_attention_decode, paged)
    assert chosen == 2 * whole, (
        f"two rows of one key/value head, in tables for 656 tokens, are two parts: {chosen} threads, {whole} without a split"
    )


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("others", [np.nan, 1e30])
def test_task_5_what_belongs_to_nobody_is_not_used(others: float, queries: int) -> None:
    check_what_is_not_read(answer.paged_attention, others, queries)


@pytest.mark.parametrize("queries", [1, 4])
def test_task_5_tails_of_tables_may_hold_anything(queries: int) -> None:
    check_invalid_tails(answer.paged_attention, queries)


@pytest.mark.parametrize("queries", [1, 4])
def test_task_5_a_given_scale(queries: int) -> None:
    check_scale(answer.paged_attention, queries)


def test_task_5_a_given_scale_in_parts() -> None:
    paged = make_paged([600], heads=1, kv_heads=1, block_size=32)
    assert_close(answer.paged_attention(*paged.arguments, 0.3), paged.attention64(0.3), "scale 0.3, in parts")


def test_task_5_many_queries_read_each_key_for_a_tile_of_them() -> None:
    paged = make_paged([64], queries=16, heads=2, kv_heads=1)
    read = bytes_read(lambda: answer.paged_attention(*paged.arguments))
    most = 1.2 * 64 * 32 * 4
    assert read["k_pool"] <= most, f"{read['k_pool']} bytes read of k_pool, more than {most:.0f}: several queries are a tile"


@pytest.mark.parametrize("queries", [1, 2])
def test_task_5_what_does_not_fit_is_refused(queries: int) -> None:
    check_refusals(answer.paged_attention, queries)
    for dim in (48, 288 if queries == 1 else 160):
        paged = make_paged([8], queries=queries, dim=dim)
        with refuses(ValueError, f"{queries} queries of {dim} numbers: no arrays step in for what a kernel refuses", str(dim)):
            answer.paged_attention(*paged.arguments)


def test_task_5_a_paged_cache_attends_with_it() -> None:
    q, k, v = (normal(1, heads, 5, 32, seed=heads + i) for i, heads in enumerate((4, 2, 2)))
    answer.paged_attention(*make_paged([3]).arguments)  # this task's own function first
    kernels, arrays = (answer.PagedKvCache(6, 16, attend) for attend in (answer.paged_attention, None))
    for spans in ([Span(0, 2, [4]), Span(0, 3, [1])], [Span(2, 3, [4]), Span(3, 7, [1])]):
        new = sum(span.end - span.start for span in spans)
        outs = []
        for cache in (kernels, arrays):
            cache.batch = make_batch(spans, 16)
            outs.append(cache.attend(q[:, :, :new], k[:, :, :new], v[:, :, :new], 0.2))
        hint = "day 1's PagedKvCache attends group by group, with this function or by gathering, and both give the same"
        assert_close(outs[0], np.array(outs[1]), hint)
