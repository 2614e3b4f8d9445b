"""Week 2 Day 4, task 3: decode attention over rows of different lengths, against the formula in float64."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from metal_anywhere import cpu_runner
from oracles import HALF, assert_close, attention64, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import (
    ORDERS,
    ROUNDED_ONCE,
    Qkv,
    barrier_hint,
    bytes_read,
    check_refusals,
    in_order,
    make_qkv,
)


def decode64(qkv: Qkv, lengths: Sequence[int], scale: float | None = None) -> np.ndarray:
    q, k, v = map(to_numpy, qkv)
    rows = [attention64(q[[b]], k[[b], :, :n], v[[b], :, :n], scale) for b, n in enumerate(lengths)]
    return np.concatenate(rows)


def with_garbage(qkv: Qkv, lengths: Sequence[int]) -> Qkv:
    """The same, but nan in every row beyond its length."""
    q, k, v = qkv
    beyond = mx.arange(k.shape[2])[:, None] >= mx.array(lengths)[:, None, None, None]
    return q, mx.where(beyond, mx.nan, k).astype(k.dtype), mx.where(beyond, mx.nan, v).astype(v.dtype)


@pytest.mark.parametrize(
    ("heads", "kv_heads", "lengths", "dim"),
    [
        (4, 4, [70, 1, 33], 64),
        (4, 2, [5, 200], 64),
        (6, 2, [64, 3], 64),
        (5, 1, [9], 64),
        (2, 1, [40, 41, 300], 128),
        (1, 1, [31], 32),
        (2, 2, [50, 8], 256),
    ],
)
def test_task_3_the_formula(heads: int, kv_heads: int, lengths: list[int], dim: int) -> None:
    qkv = make_qkv(len(lengths), heads, kv_heads, 1, max(lengths) + 3, dim)
    which = "row b sees its first lengths[b] keys, query head h reads key/value head h // (H / KV)"
    hint = f"{heads} heads over {kv_heads}, lengths {lengths}: {which}"
    assert_close(answer.decode_attention(*qkv, lengths), decode64(qkv, lengths), hint)


def test_task_3_lengths_may_be_an_array_and_scale_a_number() -> None:
    qkv, lengths = make_qkv(3, 2, 1, 1, 20, 64), [20, 7, 12]
    out = answer.decode_attention(*qkv, mx.array(lengths, dtype=mx.int32), scale=0.3)
    assert_close(out, decode64(qkv, lengths, 0.3), "scale=0.3 takes the place of 1/√D")


@pytest.mark.parametrize("dtype", HALF)
def test_task_3_half_precision(dtype: mx.Dtype) -> None:
    (q, k, v), lengths = make_qkv(2, 4, 2, 1, 60, 64, dtype), [60, 21]
    v = 100 * v
    out = answer.decode_attention(q, k, v, lengths)
    assert out.dtype == dtype, f"the result has the dtype of q, {dtype}, not {out.dtype}"
    hint = "weights and sums are float32, and only the result is rounded; if it is far off, see the test of the formula"
    assert_close(out, decode64((q, k, v), lengths), hint, ROUNDED_ONCE[dtype])


def test_task_3_what_lies_beyond_a_length_is_not_used() -> None:
    lengths = [1, 13, 40, 64]
    qkv = make_qkv(4, 4, 2, 1, 64, 64)
    out = answer.decode_attention(*with_garbage(qkv, lengths), lengths)
    assert_close(
        out,
        decode64(qkv, lengths),
        "nan lies beyond each row's length, and 0 times nan is nan: a key beyond it must not be used at all",
    )


@pytest.mark.parametrize("heads", [2, 4, 6])
def test_task_3_each_key_is_read_once_and_none_beyond_the_length(heads: int) -> None:
    lengths = [1, 13, 40, 64]
    qkv = make_qkv(4, heads, 2, 1, 128, 64)
    read = bytes_read(lambda: answer.decode_attention(*qkv, lengths))
    want = sum(lengths) * 2 * 64 * 4
    hint = "stop at lengths[b]"
    if heads > 2:
        hint += "; the query heads of a threadgroup share each load: load a key once and use it for all of them"
    for name in "kv":
        # A kernel that takes several keys at a time may read its last one again, instead of one beyond the length.
        assert want <= read[name] <= 1.25 * want, (
            f"{sum(lengths)} tokens of 2 heads are {want} bytes, but {read[name]} were read of {name}: {hint}"
        )


def test_task_3_views_are_read_where_they_lie() -> None:
    q, slab_k, slab_v = make_qkv(5, 4, 2, 1, 96, 64)
    k, v = slab_k[1:4, :, 8:48], slab_v[1:4, :, 8:48]
    lengths = [40, 2, 17]
    mx.eval(slab_k, slab_v)
    with cpu_runner() as launches:
        out = answer.decode_attention(q[1:4], k, v, lengths)
        mx.eval(out)
    hint = "k and v are slices of a slab: number d of key s is row_k[s * k_step + d]"
    assert_close(out, decode64((q[1:4], k, v), lengths), hint)
    for name in "kv":
        size = launches[-1].buffers[name].bytes
        assert size > k.nbytes, f"the kernel was given a copy of {name}: slices are to be read in place"


def test_task_3_any_strides() -> None:
    q, k, v = make_qkv(2, 2, 2, 1, 40, 64)
    # The same numbers as in q, k and v, in another order in memory.
    q = mx.contiguous(q.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    k = mx.contiguous(k.swapaxes(1, 2)).swapaxes(1, 2)
    v = mx.contiguous(v.swapaxes(2, 3)).swapaxes(2, 3)
    lengths = mx.array([40, 0, 11, 0])[::2]
    out = answer.decode_attention(q, k, v, lengths)
    hint = "q, k and v lie in other orders in memory: use q_strides for every axis of q, and k_step and v_step"
    assert_close(out, decode64((q, k, v), [40, 11]), hint)


def test_task_3_large_scores_do_not_overflow() -> None:
    qkv, lengths = make_qkv(2, 2, 1, 1, 90, 64, size=300.0), [90, 30]
    out = answer.decode_attention(*qkv, lengths)
    # Scores of a few hundred have an absolute error of about 1e-4 in float32, which is a relative one in the weights.
    assert_close(out, decode64(qkv, lengths), "scores of a few hundred: subtract the running maximum first", 1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_task_3_any_order_of_threads(order: str) -> None:
    qkv, lengths = make_qkv(2, 4, 2, 1, 150, 64), [150, 30]
    out = in_order(order, lambda: answer.decode_attention(*qkv, lengths))
    assert_close(out, decode64(qkv, lengths), barrier_hint(order))


def test_task_3_a_row_alone_is_the_row_in_a_batch() -> None:
    lengths = [90, 1, 33]
    q, k, v = make_qkv(3, 4, 2, 1, 90, 64)
    together = answer.decode_attention(q, k, v, lengths)
    for b, n in enumerate(lengths):
        alone = answer.decode_attention(q[b : b + 1], k[b : b + 1, :, :n], v[b : b + 1, :, :n], [n])
        assert_close(together[b : b + 1], to_numpy(alone), f"row {b} must not depend on its neighbours, nor on spare room", 0.0)


def test_task_3_what_does_not_fit_is_refused() -> None:
    q, k, v = make_qkv(2, 4, 2, 1, 8, 32)
    mx.eval(answer.decode_attention(q, k, v, [8, 1]))
    for wrong, name in [([9, 1], "9"), ([0, 1], "0"), ([8], "1"), (mx.array([8, 8, 8]), "3")]:
        with refuses(ValueError, f"lengths {wrong} for 2 rows of 8 keys: one length from 1 to 8 for each row", name):
            answer.decode_attention(q, k, v, wrong)
    check_refusals(lambda q, k, v: answer.decode_attention(q, k, v, [8, 1]), 1, unsupported_dim=288)
