"""Week 1 Day 1: attention, against the formula in float64 and MLX's own."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from oracles import HALF, assert_close, attention64, causal64, normal, softmax64, to_numpy


@pytest.mark.parametrize(
    ("shape", "axis"), [((5,), -1), ((3, 4), -1), ((3, 4), 0), ((2, 3, 4), 1), ((2, 3, 4, 5), -2), ((4, 1), -1)]
)
def test_task_1_softmax_is_the_formula_along_the_axis(shape: tuple[int, ...], axis: int) -> None:
    x = normal(*shape, seed=1, size=2.0)
    hint = f"e^x / sum(e^x), the sum along axis {axis}"
    assert_close(answer.softmax(x, axis=axis), softmax64(x, axis), hint)


def test_task_1_softmax_takes_the_last_axis_by_default() -> None:
    x = normal(3, 4, seed=2)
    assert_close(answer.softmax(x), softmax64(x, -1), "without `axis`, the last one is meant")


@pytest.mark.parametrize("largest", [100.0, 1e4, -1e4])
def test_task_1_softmax_of_large_scores_neither_overflows_nor_vanishes(largest: float) -> None:
    x = mx.array([largest, largest - 1.0, largest - 3.0])
    hint = "e^x overflows above 88 and is 0 below -103 in float32: subtract the largest score first"
    assert_close(answer.softmax(x), softmax64([0.0, -1.0, -3.0]), hint)


def test_task_1_softmax_subtracts_each_row_its_own_largest_score() -> None:
    x = mx.array([[0.0, 1.0], [900.0, 901.0]])
    hint = "the largest score of each row, along the axis: with one for the whole array the small rows vanish"
    assert_close(answer.softmax(x), softmax64([[0.0, 1.0]] * 2), hint)


def test_task_1_softmax_gives_minus_infinity_no_weight() -> None:
    weights = answer.softmax(mx.array([[0.5, -mx.inf, 1.5], [-mx.inf, -mx.inf, -7.0]]))
    assert_close(weights, softmax64([[0.5, -np.inf, 1.5], [-np.inf, -np.inf, -7.0]]), "a score of -inf gets weight 0")
    assert weights[0, 1].item() == 0.0, "the weight of a score of -inf is exactly 0: masked values must not leak through"


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_softmax_keeps_half_precision(dtype: mx.Dtype) -> None:
    x = normal(4, 8, seed=3, size=30.0, dtype=dtype)
    weights = answer.softmax(x)
    assert weights.dtype == dtype, f"the result should have the dtype of x, {dtype}, not {weights.dtype}"
    hint = "e^x overflows above 11 in float16, and above 88 in bfloat16: subtract each row's own largest score first"
    assert_close(weights, softmax64(x), hint, HALF[dtype])


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=1, max_size=8))
def test_task_1_softmax_of_any_scores_is_a_distribution(scores: list[float]) -> None:
    weights = to_numpy(answer.softmax(mx.array(scores)))
    assert abs(weights.sum() - 1) < 1e-5, "the weights sum to 1"
    assert (weights >= 0).all(), "no weight is negative"
    assert weights[np.argmax(scores)] == weights.max(), "the largest score has the largest weight"


@pytest.mark.parametrize(
    ("leading", "length", "total"), [((), 3, 3), ((2,), 4, 4), ((2, 3), 4, 4), ((2, 3), 1, 6), ((1, 2, 2), 5, 3)]
)
def test_task_2_attention_is_the_formula(leading: tuple[int, ...], length: int, total: int) -> None:
    q, k, v = (normal(*leading, n, 16, seed=i) for i, n in enumerate((length, total, total)))
    hint = "softmax(q kᵀ / √D) v with the softmax over the keys, for any leading axes"
    assert_close(answer.scaled_dot_product_attention(q, k, v), attention64(q, k, v), hint)


def test_task_2_attention_is_what_mlx_computes() -> None:
    q, k, v = (normal(2, 4, n, 32, seed=i) for i, n in enumerate((5, 7, 7)))
    want = mx.fast.scaled_dot_product_attention(q, k, v, scale=0.3)
    hint = "5 queries, 7 keys and scale=0.3: the same as mx.fast.scaled_dot_product_attention"
    assert_close(answer.scaled_dot_product_attention(q, k, v, scale=0.3), want, hint)


@pytest.mark.parametrize("scale", [None, 1.0, 0.0])
def test_task_2_the_default_scale_is_one_over_the_root_of_the_head_dimension(scale: float | None) -> None:
    q, k, v = (normal(2, 6, 64, seed=i) for i in range(3))
    hint = f"scale={scale}: a number multiplies the scores as it is, None stands for 1/√D (D is the last axis of q)"
    assert_close(answer.scaled_dot_product_attention(q, k, v, scale=scale), attention64(q, k, v, scale), hint)


def test_task_2_a_query_that_matches_one_key_reads_its_value() -> None:
    keys = 20.0 * mx.eye(4)
    v = normal(4, 4, seed=1)
    got = answer.scaled_dot_product_attention(keys[::-1], keys, v)
    assert_close(got, v[::-1], "each query equals one key and is orthogonal to the others, so it reads that key's value")


@pytest.mark.parametrize("shape", [(4, 6), (2, 1, 4, 6), (1, 6), (3, 4, 6)])
def test_task_2_the_mask_is_added_to_the_scores(shape: tuple[int, ...]) -> None:
    q, k, v = (normal(2, 3, n, 16, seed=i) for i, n in enumerate((4, 6, 6)))
    mask = normal(*shape, seed=4, size=2.0)
    hint = "the mask is added to the scaled scores before the softmax, and broadcasts to (..., L, S)"
    assert_close(answer.scaled_dot_product_attention(q, k, v, mask=mask), attention64(q, k, v, mask=mask), hint)


def test_task_2_a_masked_key_is_not_read_at_all() -> None:
    q, k, v = (normal(2, n, 16, seed=i) for i, n in enumerate((3, 5, 5)))
    mask = mx.array([0.0, 0.0, -mx.inf, 0.0, -mx.inf])
    spoiled = mx.where(mx.isinf(mask)[:, None], 1e6, v)
    got = answer.scaled_dot_product_attention(q, k, spoiled, mask=mask)
    assert_close(got, attention64(q, k, v, mask=mask), "with -inf in the mask a value must have no weight, however large it is")


def test_task_2_large_scores_do_not_overflow() -> None:
    q, k, v = (normal(2, 4, 16, seed=i, size=size) for i, size in enumerate((100.0, 100.0, 1.0)))
    # Scores near 1e4 have an error near 1e-3 in float32, which e^x turns into one of 1e-3 of a weight.
    hint = "scores of ten thousand are fine if the softmax subtracts each row's own largest score"
    assert_close(answer.scaled_dot_product_attention(q, k, v), attention64(q, k, v), hint, 1e-2)


def heads64(
    x: mx.array, w_q: mx.array, w_k: mx.array, w_v: mx.array, w_o: mx.array, heads: int, mask: mx.array | float = 0.0
) -> np.ndarray:
    """Multi-head attention, one head after the other."""
    q, k, v = (np.split(to_numpy(x) @ to_numpy(w).T, heads, axis=-1) for w in (w_q, w_k, w_v))
    masks = np.broadcast_to(to_numpy(mask), (x.shape[0], heads, x.shape[1], x.shape[1]))
    outs = [attention64(q[h], k[h], v[h], mask=masks[:, h]) for h in range(heads)]
    return np.concatenate(outs, axis=-1) @ to_numpy(w_o).T


def projections(width: int, embedding: int) -> list[mx.array]:
    shapes = [(width, embedding)] * 3 + [(embedding, width)]
    return [normal(*shape, seed=10 + i, size=0.5) for i, shape in enumerate(shapes)]


@pytest.mark.parametrize("heads", [1, 2, 4])
@pytest.mark.parametrize("embedding", [16, 12])
def test_task_3_every_head_attends_on_its_own(heads: int, embedding: int) -> None:
    x, weights = normal(2, 5, embedding, seed=1), projections(16, embedding)
    hint = "head h takes numbers h·D to (h+1)·D − 1 of each projection; the heads' outputs lie side by side before w_o"
    assert_close(answer.multi_head_attention(x, *weights, heads), heads64(x, *weights, heads), hint)


def test_task_3_one_long_row_and_one_token() -> None:
    weights = projections(8, 8)
    for batch, length in ((1, 40), (3, 1)):
        x = normal(batch, length, 8, seed=length)
        got = answer.multi_head_attention(x, *weights, 2)
        assert_close(got, heads64(x, *weights, 2), f"B = {batch}, L = {length}: batch, length or heads are mixed up")


@pytest.mark.parametrize("shape", [(5, 5), (2, 1, 5, 5), (4, 5, 5)])
def test_task_3_the_mask_broadcasts_over_batch_and_heads(shape: tuple[int, ...]) -> None:
    x, weights = normal(2, 5, 16, seed=1), projections(16, 16)
    mask = normal(*shape, seed=2, size=2.0)
    hint = "hand the mask to the attention over (B, H, L, D): there it broadcasts to (B, H, L, L)"
    assert_close(answer.multi_head_attention(x, *weights, 4, mask=mask), heads64(x, *weights, 4, mask), hint)


def test_task_3_with_a_causal_mask_later_tokens_change_nothing() -> None:
    x, weights = normal(1, 6, 16, seed=1), projections(16, 16)
    changed = mx.concatenate([x[:, :4], normal(1, 2, 16, seed=2)], axis=1)
    mask = mx.array(causal64(6, 6), dtype=mx.float32)
    before, after = (answer.multi_head_attention(y, *weights, 4, mask=mask)[:, :4] for y in (x, changed))
    assert_close(after, before, "the first 4 tokens can't see the last 2, so their outputs must not depend on them")
