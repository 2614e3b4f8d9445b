"""Week 3 Day 2, task 4: the keys of a row divided among threadgroups and merged, against dense attention in float64."""

from functools import partial

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import ORDERS, bytes_read
from week3.day2_paged_attention.paged_checks import (
    PagedAttention,
    check_formula,
    check_invalid_tails,
    check_large_scores,
    check_order,
    check_refusals,
    check_rounded_once,
    check_row_alone,
    check_scale,
    check_scores_far_from_zero,
    check_what_is_not_read,
    make_paged,
    threads_of,
)

MERGE = "each part is attention over its own keys, and weighs exp(lse − the largest lse)"
EMPTY = "a part without keys has a very low lse and no weight; (−∞) − (−∞) and 0 / 0 are nan"


def split(parts: int) -> PagedAttention:
    return partial(answer.paged_attention_split, parts=parts)


@pytest.mark.parametrize("parts", [1, 2, 3, 8])
def test_task_4_the_formula(parts: int) -> None:
    paged = make_paged([1, 15, 16, 17, 100])
    check_formula(split(parts), paged, f"{parts} parts: {MERGE}; {EMPTY}")


@pytest.mark.parametrize("block_size", [8, 32])
def test_task_4_blocks_of_other_sizes(block_size: int) -> None:
    check_formula(split(3), make_paged([70, 9, 33], block_size=block_size), f"3 parts: {MERGE}")


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(6, 2, 64), (7, 1, 128)])
def test_task_4_query_heads_in_groups(heads: int, kv_heads: int, dim: int) -> None:
    paged = make_paged([70, 33], heads=heads, kv_heads=kv_heads, dim=dim)
    check_formula(split(3), paged, f"3 parts of {heads} heads of {dim}, all numbers of each: {MERGE}")


def test_task_4_one_token_and_many_parts() -> None:
    check_formula(split(32), make_paged([1, 2]), f"one part has a key, 31 have none: {EMPTY}")


def test_task_4_split_equals_unsplit() -> None:
    paged = make_paged([90, 33, 5])
    for parts in (2, 5):
        parted = split(parts)(*paged.arguments)
        whole = answer.paged_attention_decode(*paged.arguments)
        assert_close(parted, to_numpy(whole), f"{parts} parts and one give the same: {MERGE}")


@pytest.mark.parametrize("others", [np.nan, 1e30])
def test_task_4_what_belongs_to_nobody_is_not_used(others: float) -> None:
    check_what_is_not_read(split(3), others)


def test_task_4_tails_of_tables_may_hold_anything() -> None:
    check_invalid_tails(split(3))


def test_task_4_a_given_scale() -> None:
    check_scale(split(2))


@pytest.mark.parametrize("dtype", HALF)
def test_task_4_half_precision_is_rounded_once(dtype: mx.Dtype) -> None:
    check_rounded_once(split(3), dtype)


@pytest.mark.parametrize("parts", [2, 8])
def test_task_4_parts_of_very_different_weight(parts: int) -> None:
    check_large_scores(split(parts))


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_task_4_scores_far_from_zero(far: float) -> None:
    check_scores_far_from_zero(split(3), far)


@pytest.mark.parametrize("order", ORDERS)
def test_task_4_any_order_of_threads(order: str) -> None:
    check_order(split(3), order)


def test_task_4_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(split(3))


def test_task_4_the_parts_are_computed_by_different_threadgroups() -> None:
    paged = make_paged([128], heads=1, kv_heads=1)
    eight, four, whole = (threads_of(attend, paged) for attend in (split(8), split(4), answer.paged_attention_decode))
    assert eight >= 2 * four >= 8 * whole, (
        f"{eight} threads for 8 parts, {four} for 4, {whole} without a split: each part is a threadgroup's own"
    )


def test_task_4_each_key_is_read_once() -> None:
    paged = make_paged([160, 33], dim=64)
    read = bytes_read(lambda: split(4)(*paged.arguments))
    keys = sum(paged.lengths) * 2 * 64 * 4
    for name in ("k_pool", "v_pool"):
        assert keys <= read[name] <= 1.1 * keys, (
            f"{keys} bytes of {name} belong to the rows, {read[name]} were read: parts overlap"
        )


def test_task_4_what_does_not_fit_is_refused() -> None:
    check_refusals(split(2))
    paged = make_paged([8])
    for parts in (0, -1, 33):
        with refuses(ValueError, f"{parts} parts: from 1 to MOST_PARTS", str(parts)):
            split(parts)(*paged.arguments)
