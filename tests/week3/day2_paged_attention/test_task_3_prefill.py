"""Week 3 Day 2, task 3: prompt chunks over a paged past, against dense causal attention in float64."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF
from support import refuses
from week2.day4_flash_attention.kernel_checks import ORDERS, bytes_read
from week3.day2_paged_attention.paged_checks import (
    CAUSAL,
    HEADS,
    WHERE,
    around,
    check_any_order_of_blocks,
    check_formula,
    check_invalid_tails,
    check_large_scores,
    check_no_copy,
    check_order,
    check_refusals,
    check_rounded_once,
    check_row_alone,
    check_scale,
    check_scores_far_from_zero,
    check_shared_blocks,
    check_strides,
    check_what_is_not_read,
    make_paged,
)


@pytest.mark.parametrize("block_size", [8, 16, 32, 64])
def test_task_3_the_formula(block_size: int) -> None:
    paged = make_paged(around(block_size, least=5), queries=5, block_size=block_size, spare=0)
    hint = f"{WHERE}; {CAUSAL}; a tile of keys may span several blocks, or end within one"
    check_formula(answer.paged_attention_prefill, paged, hint)


@pytest.mark.parametrize("block_size", [1, 12])
def test_task_3_unusual_blocks(block_size: int) -> None:
    paged = make_paged([40, 9], queries=6, block_size=block_size)
    check_formula(answer.paged_attention_prefill, paged, f"{WHERE}; a block may end anywhere in a tile of keys")


@pytest.mark.parametrize("queries", [1, 2, 16, 33])
def test_task_3_pieces_of_any_length(queries: int) -> None:
    paged = make_paged([queries, 70], queries=queries)
    check_formula(answer.paged_attention_prefill, paged, f"{CAUSAL}, with much of a past, or with none")


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(1, 1, 64), (6, 2, 64), (7, 1, 128)])
def test_task_3_query_heads_in_groups(heads: int, kv_heads: int, dim: int) -> None:
    paged = make_paged([40, 13], queries=13, heads=heads, kv_heads=kv_heads, dim=dim)
    hint = f"{HEADS}; pair i is query i / G in head kv_head · G + i % G, and there are L · G pairs"
    check_formula(answer.paged_attention_prefill, paged, hint)


def test_task_3_any_order_of_blocks() -> None:
    check_any_order_of_blocks(answer.paged_attention_prefill, queries=3)


def test_task_3_rows_may_share_blocks() -> None:
    check_shared_blocks(answer.paged_attention_prefill, queries=3)


@pytest.mark.parametrize("others", [np.nan, 1e30])
def test_task_3_what_belongs_to_nobody_is_not_used(others: float) -> None:
    check_what_is_not_read(answer.paged_attention_prefill, others, queries=4)


def test_task_3_tails_of_tables_may_hold_anything() -> None:
    check_invalid_tails(answer.paged_attention_prefill, queries=4)


def test_task_3_a_given_scale() -> None:
    check_scale(answer.paged_attention_prefill, queries=4)


@pytest.mark.parametrize("dtype", HALF)
def test_task_3_half_precision_is_rounded_once(dtype: mx.Dtype) -> None:
    check_rounded_once(answer.paged_attention_prefill, dtype, queries=4)


def test_task_3_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.paged_attention_prefill, queries=4)


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_task_3_scores_far_from_zero(far: float) -> None:
    check_scores_far_from_zero(answer.paged_attention_prefill, far, queries=4)


@pytest.mark.parametrize("order", ORDERS)
def test_task_3_any_order_of_threads(order: str) -> None:
    check_order(answer.paged_attention_prefill, order, queries=20)


def test_task_3_any_strides() -> None:
    check_strides(answer.paged_attention_prefill, queries=4)


def test_task_3_the_pool_is_read_where_it_lies() -> None:
    check_no_copy(answer.paged_attention_prefill, queries=4)


def test_task_3_a_tile_of_keys_serves_all_heads_of_a_group() -> None:
    paged = make_paged([96], queries=8, heads=8, kv_heads=2, dim=64)
    read = bytes_read(lambda: answer.paged_attention_prefill(*paged.arguments))
    keys = sum(paged.lengths) * 2 * 64 * 4
    for name in ("k_pool", "v_pool"):
        assert keys <= read[name] <= 1.2 * keys, (
            f"8 queries in the 4 heads of a group are 32 pairs, a single tile, which needs {keys} bytes of {name}, but "
            f"{read[name]} were read"
        )


def test_task_3_tiles_that_nobody_sees_are_skipped() -> None:
    paged = make_paged([128], queries=128, heads=2, kv_heads=2)
    read = bytes_read(lambda: answer.paged_attention_prefill(*paged.arguments))
    most = 0.7 * 4 * 128 * 2 * 32 * 4
    assert read["k_pool"] <= most, (
        f"{read['k_pool']} bytes read of k_pool, more than {most:.0f}: four tiles of queries see 1, 2, 3 and 4 of four tiles "
        "of keys, so end the loop where the last pair of the tile is"
    )


def test_task_3_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.paged_attention_prefill, queries=4)


def test_task_3_what_does_not_fit_is_refused() -> None:
    check_refusals(answer.paged_attention_prefill, queries=2)
    paged = make_paged([8], queries=2, dim=160)
    with refuses(ValueError, "a head dimension of 160 is not supported", "160"):
        answer.paged_attention_prefill(*paged.arguments)
