"""Week 3 Day 2, task 2: the decode kernel that walks the block tables, against dense attention in float64."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import ORDERS, bytes_read
from week3.day2_paged_attention.paged_checks import (
    HEADS,
    LAST,
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


@pytest.mark.parametrize("block_size", [8, 16, 32])
def test_task_2_the_formula(block_size: int) -> None:
    paged = make_paged(around(block_size), block_size=block_size, spare=0)
    check_formula(answer.paged_attention_decode, paged, f"{WHERE}; {LAST}")


@pytest.mark.parametrize("block_size", [1, 12])
def test_task_2_unusual_blocks(block_size: int) -> None:
    paged = make_paged([25, 3], block_size=block_size)
    hint = f"{WHERE}; the keys of a step need not fill a block, and a block need not be filled by steps"
    check_formula(answer.paged_attention_decode, paged, hint)


@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(1, 1, 64), (6, 2, 64), (7, 1, 128), (2, 2, 256)])
def test_task_2_query_heads_in_groups(heads: int, kv_heads: int, dim: int) -> None:
    paged = make_paged([20, 5], heads=heads, kv_heads=kv_heads, dim=dim)
    hint = f"{HEADS}; a threadgroup has the heads first_head … first_head + heads − 1, which may be fewer than HEADS"
    check_formula(answer.paged_attention_decode, paged, hint)


def test_task_2_more_blocks_than_teams() -> None:
    paged = make_paged([300, 129], block_size=8)
    check_formula(answer.paged_attention_decode, paged, "a row of 38 blocks, where a threadgroup has 16 teams: each walks on")


def test_task_2_any_order_of_blocks() -> None:
    check_any_order_of_blocks(answer.paged_attention_decode)


def test_task_2_rows_may_share_blocks() -> None:
    check_shared_blocks(answer.paged_attention_decode)


@pytest.mark.parametrize("others", [np.nan, 1e30])
def test_task_2_what_belongs_to_nobody_is_not_used(others: float) -> None:
    check_what_is_not_read(answer.paged_attention_decode, others)


def test_task_2_tails_of_tables_may_hold_anything() -> None:
    check_invalid_tails(answer.paged_attention_decode)


def test_task_2_a_given_scale() -> None:
    check_scale(answer.paged_attention_decode)


@pytest.mark.parametrize("dtype", HALF)
def test_task_2_half_precision_is_rounded_once(dtype: mx.Dtype) -> None:
    check_rounded_once(answer.paged_attention_decode, dtype)


def test_task_2_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.paged_attention_decode)


@pytest.mark.parametrize("far", [-1e4, 1e4])
def test_task_2_scores_far_from_zero(far: float) -> None:
    check_scores_far_from_zero(answer.paged_attention_decode, far)


@pytest.mark.parametrize("order", ORDERS)
def test_task_2_any_order_of_threads(order: str) -> None:
    check_order(answer.paged_attention_decode, order)


def test_task_2_any_strides() -> None:
    check_strides(answer.paged_attention_decode)


def test_task_2_the_pool_is_read_where_it_lies() -> None:
    check_no_copy(answer.paged_attention_decode)


@pytest.mark.parametrize("heads", [2, 6])
def test_task_2_little_more_is_read_than_has_to_be(heads: int) -> None:
    paged = make_paged([160, 77, 33], heads=heads, dim=64, block_size=16, dtype=mx.float16)
    read = bytes_read(lambda: answer.paged_attention_decode(*paged.arguments))
    keys = sum(paged.lengths) * 2 * 64 * 2
    for name in ("k_pool", "v_pool"):
        assert keys <= read[name] <= 1.1 * keys, (
            f"{sum(paged.lengths)} tokens of 2 heads are {keys} bytes, but {read[name]} were read of {name}: stop at the row's "
            "length, and use each key for all heads of the threadgroup once it is loaded"
        )
    assert read["tables"] <= 0.1 * keys, (
        f"{read['tables']} bytes were read of the tables, for {keys} bytes of keys: look an entry up once for its block"
    )


def test_task_2_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.paged_attention_decode)


def test_task_2_lse_is_the_logarithm_of_the_sum() -> None:
    paged = make_paged([20, 1, 40], size=3.0)
    _, lse = answer.attend_in_parts(*paged.arguments, None, parts=1, dtype=mx.float32)
    want = []
    for q, keys in zip(to_numpy(paged.q), paged.keys, strict=True):
        scores = (q[:, 0].reshape(2, 2, 32) @ keys.swapaxes(1, 2)) * 32**-0.5
        want.append(np.log(np.exp(scores).sum(axis=-1)).reshape(4, 1))
    assert_close(lse, np.stack(want), "lse is ln Σ exp(score) over all keys of the row: m_total + log(l_total)")


def test_task_2_what_does_not_fit_is_refused() -> None:
    check_refusals(answer.paged_attention_decode)
    paged = make_paged([8], dim=288)
    with refuses(ValueError, "a head dimension of 288 is not supported", "288"):
        answer.paged_attention_decode(*paged.arguments)
    paged = make_paged([8], queries=2)
    with refuses(ValueError, "two queries per row are not decoding", "2 queries"):
        answer.paged_attention_decode(*paged.arguments)
