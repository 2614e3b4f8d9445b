"""Week 3 Day 2, task 1: paged attention with plain arrays, against dense attention in float64."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close
from week3.day2_paged_attention.paged_checks import (
    CAUSAL,
    HEADS,
    LAST,
    WHERE,
    around,
    check_any_order_of_blocks,
    check_formula,
    check_half,
    check_invalid_tails,
    check_refusals,
    check_scale,
    check_shared_blocks,
    check_strides,
    check_what_is_not_read,
    make_paged,
)


@pytest.mark.parametrize("block_size", [1, 8, 12, 16, 32])
def test_task_1_the_formula(block_size: int) -> None:
    paged = make_paged(around(block_size), block_size=block_size, spare=0)
    check_formula(answer.paged_attention_arrays, paged, f"{WHERE}; {LAST}")


@pytest.mark.parametrize(("heads", "kv_heads"), [(1, 1), (3, 3), (6, 2), (7, 1)])
def test_task_1_query_heads_in_groups(heads: int, kv_heads: int) -> None:
    paged = make_paged([20, 5], heads=heads, kv_heads=kv_heads, dim=10)
    check_formula(answer.paged_attention_arrays, paged, HEADS)


@pytest.mark.parametrize("queries", [2, 5, 17])
@pytest.mark.parametrize("kv_heads", [1, 2, 4])
def test_task_1_several_queries_per_row(queries: int, kv_heads: int) -> None:
    paged = make_paged([queries, 33, 20], queries=queries, kv_heads=kv_heads)
    hint = f"{CAUSAL}; the mask of row b is its own, and serves all of its heads"
    check_formula(answer.paged_attention_arrays, paged, hint)


@pytest.mark.parametrize("queries", [1, 3])
def test_task_1_any_order_of_blocks(queries: int) -> None:
    check_any_order_of_blocks(answer.paged_attention_arrays, queries)


@pytest.mark.parametrize("queries", [1, 3])
def test_task_1_rows_may_share_blocks(queries: int) -> None:
    check_shared_blocks(answer.paged_attention_arrays, queries)


@pytest.mark.parametrize("queries", [1, 4])
@pytest.mark.parametrize("others", [np.nan, np.inf, 1e30])
def test_task_1_what_belongs_to_nobody_is_not_used(others: float, queries: int) -> None:
    check_what_is_not_read(answer.paged_attention_arrays, others, queries)


@pytest.mark.parametrize("queries", [1, 4])
def test_task_1_tails_of_tables_may_hold_anything(queries: int) -> None:
    check_invalid_tails(answer.paged_attention_arrays, queries)


@pytest.mark.parametrize("sick", [0, 1, 2])
def test_task_1_a_row_with_nan_is_alone_with_it(sick: int) -> None:
    paged = make_paged([20, 30, 9])
    its = (mx.arange(paged.k_pool.shape[1])[:, None] == paged.tables[sick]).any(axis=1)[:, None, None]
    k_pool, v_pool = (mx.where(its, mx.nan, pool) for pool in (paged.k_pool, paged.v_pool))
    got = answer.paged_attention_arrays(paged.q, k_pool, v_pool, *paged.arguments[3:])
    others = mx.array([row for row in range(3) if row != sick])
    hint = f"nan is in the blocks of row {sick} alone, but other rows have changed: whatever a row reads has to be its own"
    assert_close(got[others], paged.attention64()[np.array(others)], hint)


def test_task_1_a_given_scale() -> None:
    check_scale(answer.paged_attention_arrays)


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_half_precision(dtype: mx.Dtype) -> None:
    check_half(answer.paged_attention_arrays, dtype, HALF[dtype])


def test_task_1_any_strides() -> None:
    check_strides(answer.paged_attention_arrays)


def test_task_1_the_pool_is_not_copied() -> None:
    paged = make_paged([20, 9])
    k, v = (mx.contiguous(mx.pad(pool, [(0, 0), (0, 4000), (0, 0), (0, 0)])) for pool in (paged.k_pool, paged.v_pool))
    mx.eval(k, v, paged.q, paged.tables)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    mx.eval(answer.paged_attention_arrays(paged.q, k, v, paged.tables, mx.array(paged.lengths)))
    grown = mx.get_peak_memory() - before
    assert grown < k.nbytes / 4, (
        f"two short rows took {grown} bytes, where a pool has {k.nbytes}: gather the rows' own blocks, and copy nothing else"
    )


@pytest.mark.parametrize("queries", [1, 2])
def test_task_1_what_does_not_fit_is_refused(queries: int) -> None:
    check_refusals(answer.paged_attention_arrays, queries)
