"""Week 1 Day 3: the causal mask and grouped-query attention, against float64 and MLX's own."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import assert_close, attention64, causal64, normal, to_numpy
from support import refuses


@pytest.mark.parametrize(("length", "total"), [(1, 1), (2, 2), (4, 4), (3, 7), (2, 5), (1, 9), (6, 7)])
def test_task_1_a_query_sees_its_own_position_and_those_before(length: int, total: int) -> None:
    mask = to_numpy(answer.causal_mask(length, total))
    assert mask.shape == (length, total), "one row a query, one column a key"
    assert set(np.unique(mask)) <= {0.0, -np.inf}, "0 where attention is allowed, −inf elsewhere: the mask is added"
    for i in range(length):
        seen = np.flatnonzero(mask[i] == 0).tolist()
        position = total - length + i
        assert seen == list(range(position + 1)), (
            f"of {total} positions, query {i} of {length} is at {position}, so it sees keys 0 … {position}, not {seen}"
        )


def test_task_1_the_last_query_sees_everything() -> None:
    for length, total in ((1, 5), (3, 5), (5, 5)):
        last = to_numpy(answer.causal_mask(length, total))[-1]
        assert (last == 0).all(), "the queries are the LAST `length` positions: align the mask at the bottom right"


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_task_1_the_mask_has_the_dtype_asked_for(dtype: mx.Dtype) -> None:
    mask = answer.causal_mask(2, 3, dtype)
    assert mask.dtype == dtype, f"asked for {dtype}, got {mask.dtype}"
    assert_close(mask, causal64(2, 3), "0 and −inf in every dtype")


def test_task_1_more_queries_than_positions_are_refused() -> None:
    with refuses(ValueError, "4 queries can't be the last of 3 positions: compare the two first", named="4"):
        answer.causal_mask(4, 3)


def heads(batch: int, q_heads: int, kv_heads: int, length: int, total: int, dim: int = 16) -> list[mx.array]:
    shapes = [(batch, q_heads, length, dim), (batch, kv_heads, total, dim), (batch, kv_heads, total, dim)]
    return [normal(*shape, seed=i) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 4), (4, 2), (6, 2), (6, 3), (4, 1)])
@pytest.mark.parametrize(("length", "total"), [(5, 5), (3, 8), (1, 8)])
def test_task_2_query_head_h_reads_key_value_head_h_over_g(q_heads: int, kv_heads: int, length: int, total: int) -> None:
    q, k, v = heads(2, q_heads, kv_heads, length, total)
    hint = f"query head h reads key/value head h // {q_heads // kv_heads} (neighbours share one)"
    assert_close(answer.grouped_query_attention(q, k, v), attention64(q, k, v), hint)


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_task_2_it_is_what_mlx_computes(kv_heads: int) -> None:
    q, k, v = heads(2, 4, kv_heads, 4, 6)
    want = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.2, mask="causal")
    got = answer.grouped_query_attention(q, k, v, scale=0.2, mask="causal")
    assert_close(got, want, '`scale` multiplies the scores; "causal" lets the last L positions look back only')


def test_task_2_the_default_scale_is_one_over_the_root_of_the_head_dimension() -> None:
    q, k, v = heads(1, 4, 2, 3, 3, dim=64)
    assert_close(answer.grouped_query_attention(q, k, v), attention64(q, k, v, 0.125), "D is 64, so the scale is 1/8")


@pytest.mark.parametrize(("length", "total"), [(2, 2), (5, 5), (2, 3), (2, 9), (3, 8), (7, 8), (40, 70)])
def test_task_2_causal_queries_are_the_last_positions(length: int, total: int) -> None:
    q, k, v = heads(2, 4, 2, length, total)
    hint = f'"causal" with {length} queries and {total} keys: query i is at position {total - length} + i'
    want = attention64(q, k, v, mask=causal64(length, total))
    assert_close(answer.grouped_query_attention(q, k, v, mask="causal"), want, hint)


@pytest.mark.parametrize("total", [1, 6])
def test_task_2_a_single_causal_query_sees_every_key(total: int) -> None:
    q, k, v = heads(2, 4, 2, 1, total)
    hint = "in decoding the one query is the newest position: nothing is hidden from it"
    assert_close(answer.grouped_query_attention(q, k, v, mask="causal"), attention64(q, k, v), hint)


@pytest.mark.parametrize("shape", [(4, 6), (3, 1, 4, 6)], ids=["(L, S)", "(B, 1, L, S)"])
@pytest.mark.parametrize(("batch", "kv_heads"), [(3, 2), (3, 3), (3, 6), (3, 1)])
def test_task_2_an_array_mask_is_shared_by_all_heads(shape: tuple[int, ...], batch: int, kv_heads: int) -> None:
    q, k, v = heads(batch, 6, kv_heads, 4, 6)
    noise = normal(*shape, seed=5, size=2.0)
    mask = mx.where(noise > 1.5, -mx.inf, noise)
    hint = f"a mask {shape} is added to the scores of every head; its first axis, if it has four, is the batch"
    assert_close(answer.grouped_query_attention(q, k, v, mask=mask), attention64(q, k, v, mask=mask), hint)


def test_task_2_each_row_of_a_batch_has_its_own_mask() -> None:
    q, k, v = heads(2, 4, 2, 1, 5)
    lengths = mx.array([[2], [5]])
    mask = mx.where(mx.arange(5) < lengths, 0.0, -mx.inf)[:, None, None]
    got = answer.grouped_query_attention(q, k, v, mask=mask)
    assert_close(got[:1], attention64(q[:1], k[:1, :, :2], v[:1, :, :2]), "row 0 may see its first 2 keys only")
    assert_close(got[1:], attention64(q[1:], k[1:], v[1:]), "row 1 may see all of its 5 keys")


def test_task_2_large_scores_do_not_overflow() -> None:
    q, k, v = heads(1, 4, 2, 4, 4)
    # Scores near 1e4 have an error near 1e-3 in float32, which e^x turns into one of 1e-3 of a weight.
    got = answer.grouped_query_attention(100 * q, 100 * k, v, mask="causal")
    hint = "scores of 10 thousand are fine if the softmax subtracts the largest"
    assert_close(got, attention64(100 * q, 100 * k, v, mask=causal64(4, 4)), hint, 1e-2)


@pytest.mark.parametrize(("q_heads", "kv_heads"), [(4, 3), (2, 4)])
def test_task_2_heads_that_cannot_be_grouped_are_refused(q_heads: int, kv_heads: int) -> None:
    with refuses(ValueError, f"{q_heads} query heads can't share {kv_heads} key/value heads evenly"):
        answer.grouped_query_attention(*heads(1, q_heads, kv_heads, 2, 2))


def test_task_2_the_mask_does_not_change_the_dtype() -> None:
    q, k, v = (mx.random.normal((1, heads, 2, 8), key=mx.random.key(heads)).astype(mx.float16) for heads in (4, 2, 2))
    out = answer.grouped_query_attention(q, k, v, mask=mx.zeros((2, 2), dtype=mx.float32))
    assert out.dtype == mx.float16, "a float32 mask must not turn a half-precision model into a float32 one: cast the mask"
