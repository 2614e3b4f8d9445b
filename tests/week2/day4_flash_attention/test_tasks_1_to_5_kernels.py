"""Week 2 Day 4, tasks 1 to 5: kernels for RMSNorm, softmax and attention, against formulas in float64.

What is about numbers runs on whatever this machine has: Metal, CUDA, or the CPU runner. What is about memory traffic or the
order of threads asks for the CPU runner, which counts and can shuffle.
"""

from collections.abc import Callable, Sequence

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, attention64, causal64, normal, softmax64, to_numpy
from tiny_llm_kit.metal import cpu_runner

Attention = Callable[..., mx.array]

ORDERS = ["ascending", "descending", "shuffled"]
THREADS = "threads may run in any order: is there a barrier between writing threadgroup memory and reading it?"


def in_order(order: str, compute: Callable[[], mx.array]) -> mx.array:
    """What `compute` gives on the CPU runner when the threads run in this order."""
    with cpu_runner(order=order, seed=1):
        out = compute()
        mx.eval(out)
    return out


def bytes_read(compute: Callable[[], mx.array]) -> dict[str, int]:
    """How many bytes `compute` reads of each input of its kernel."""
    with cpu_runner() as launches:
        mx.eval(compute())
    return {name: sum(launch.buffers[name].bytes_read for launch in launches) for name in launches[-1].buffers}


# Task 1: fused RMSNorm


def rms_norm64(x: mx.array, weight: mx.array, eps: float = 1e-5) -> np.ndarray:
    wide = to_numpy(x)
    return wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + eps) * to_numpy(weight)


@pytest.mark.parametrize("shape", [(3, 64), (2, 3, 576), (1000,), (2, 33), (1, 2, 1, 5), (2, 5000)], ids=str)
def test_task_1_the_formula(shape: tuple[int, ...]) -> None:
    x, weight = normal(*shape, seed=1), normal(shape[-1], seed=2)
    assert_close(answer.fused_rms_norm(x, weight), rms_norm64(x, weight), f"x of shape {shape}, each row on its own")


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_half_precision_is_summed_in_float32(dtype: mx.Dtype) -> None:
    x, weight = normal(2, 96, seed=1, size=300.0, dtype=dtype), normal(96, seed=2, dtype=dtype)
    out = answer.fused_rms_norm(x, weight)
    assert out.dtype == dtype, f"the result has the dtype of x, {dtype}, not {out.dtype}"
    assert_close(out, rms_norm64(x, weight), "300² is more than float16 holds: square and add in float", HALF[dtype])


def test_task_1_eps_stands_under_the_root() -> None:
    weight = normal(64, seed=2)
    for size in (0.0, 1e-3, 1.0):
        x = normal(2, 64, seed=1, size=size)
        assert_close(answer.fused_rms_norm(x, weight, 0.01), rms_norm64(x, weight, 0.01), f"numbers of size {size}, eps 0.01")


@pytest.mark.parametrize("dim", [64, 576])
def test_task_1_x_is_read_once(dim: int) -> None:
    x, weight = normal(3, dim, seed=1), normal(dim, seed=2)
    read = bytes_read(lambda: answer.fused_rms_norm(x, weight))["x"]
    assert read == x.nbytes, f"x has {x.nbytes} bytes, but {read} were read: each thread keeps its numbers in registers"


@pytest.mark.parametrize("order", ORDERS)
def test_task_1_any_order_of_threads(order: str) -> None:
    x, weight = normal(2, 576, seed=1), normal(576, seed=2)
    assert_close(in_order(order, lambda: answer.fused_rms_norm(x, weight)), rms_norm64(x, weight), THREADS)


def test_task_1_a_row_alone_is_the_row_in_a_batch() -> None:
    x, weight = normal(4, 576, seed=1), normal(576, seed=2)
    alone = mx.concatenate([answer.fused_rms_norm(x[i : i + 1], weight) for i in range(4)])
    assert_close(answer.fused_rms_norm(x, weight), to_numpy(alone), "a row's result must not depend on its neighbours", 0.0)


def test_task_1_a_weight_that_does_not_fit_is_refused() -> None:
    x = normal(2, 64, seed=1)
    mx.eval(answer.fused_rms_norm(x, mx.ones(64)))
    with pytest.raises(ValueError, match="63"):
        answer.fused_rms_norm(x, mx.ones(63))


# Task 2: online softmax


@pytest.mark.parametrize("shape", [(2, 3, 100), (3, 32), (2, 33), (2, 7), (4, 1), (1000,)], ids=str)
def test_task_2_the_formula(shape: tuple[int, ...]) -> None:
    x = normal(*shape, seed=1)
    idle = "what of lanes that have nothing to read?"
    relative = "each lane's l is relative to its own m: make them comparable before they are added"
    hint = f"x of shape {shape}: {idle if shape[-1] < 32 else relative}"
    assert_close(answer.online_softmax(x), softmax64(x), hint)


@pytest.mark.parametrize("size", [300.0, -300.0, 1e4])
def test_task_2_large_scores_do_not_overflow(size: float) -> None:
    x = size + normal(2, 100, seed=1, size=abs(size))
    assert_close(answer.online_softmax(x), softmax64(x), "e^300 is infinite in float: the running maximum comes off first")


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
def test_task_2_a_new_maximum_rescales_the_sum(sign: int) -> None:
    x = sign * mx.arange(200.0)[None] / 20
    assert_close(answer.online_softmax(x), softmax64(x), "when m grows, the old sum is worth exp(m − m_new) of what it was")


def test_task_2_minus_infinity_has_no_weight() -> None:
    x = np.array(normal(5, 100, seed=1))
    x[0, :50] = x[1, 50:] = x[2, 1:] = x[3, ::2] = x[4, 7::32] = -np.inf
    want = softmax64(x)
    assert_close(answer.online_softmax(mx.array(x)), want, "a lane that has met only −inf must not make nan: (−inf) − (−inf)")


@pytest.mark.parametrize("dtype", HALF)
def test_task_2_half_precision(dtype: mx.Dtype) -> None:
    x = normal(2, 300, seed=1, dtype=dtype)
    out = answer.online_softmax(x)
    assert out.dtype == dtype, f"the result has the dtype of x, {dtype}, not {out.dtype}"
    # Weights are about 1/300: one rounding of that, and not the tolerance of numbers of size 1.
    assert_close(out * 300, softmax64(x) * 300, "sum in float, round at the end", HALF[dtype])


def test_task_2_x_is_read_twice() -> None:
    x = normal(3, 100, seed=1)
    read = bytes_read(lambda: answer.online_softmax(x))["x"]
    assert read <= 2 * x.nbytes, f"x has {x.nbytes} bytes, but {read} were read: one pass for m and l, one to write"


@pytest.mark.parametrize("order", ORDERS)
def test_task_2_any_order_of_threads(order: str) -> None:
    x = normal(3, 100, seed=1, size=10.0)
    assert_close(in_order(order, lambda: answer.online_softmax(x)), softmax64(x), THREADS)


# Task 3: decode attention

Qkv = tuple[mx.array, mx.array, mx.array]


def make_qkv(
    batch: int, heads: int, kv_heads: int, length: int, total: int, dim: int, dtype: mx.Dtype = mx.float32, size: float = 1.0
) -> Qkv:
    q = normal(batch, heads, length, dim, seed=1, size=size, dtype=dtype)
    k, v = (normal(batch, kv_heads, total, dim, seed=seed, dtype=dtype) for seed in (2, 3))
    return q, k, v


def decode64(qkv: Qkv, lengths: Sequence[int], scale: float | None = None) -> np.ndarray:
    q, k, v = map(to_numpy, qkv)
    rows = [attention64(q[[b]], k[[b], :, :n], v[[b], :, :n], scale) for b, n in enumerate(lengths)]
    return np.concatenate(rows)


def with_garbage(qkv: Qkv, lengths: Sequence[int]) -> Qkv:
    """The same, but nan in every row behind its length."""
    q, k, v = qkv
    behind = mx.arange(k.shape[2])[:, None] >= mx.array(lengths)[:, None, None, None]
    return q, mx.where(behind, mx.nan, k).astype(k.dtype), mx.where(behind, mx.nan, v).astype(v.dtype)


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
    hint = f"{heads} heads over {kv_heads}, lengths {lengths}: row b sees its first lengths[b] keys, head h reads h // G"
    assert_close(answer.decode_attention(*qkv, lengths), decode64(qkv, lengths), hint)


def test_task_3_lengths_may_be_an_array_and_scale_a_number() -> None:
    qkv, lengths = make_qkv(3, 2, 1, 1, 20, 64), [20, 7, 12]
    out = answer.decode_attention(*qkv, mx.array(lengths, dtype=mx.int32), scale=0.3)
    assert_close(out, decode64(qkv, lengths, 0.3), "scale 0.3 instead of 1/√D")


@pytest.mark.parametrize("dtype", HALF)
def test_task_3_half_precision(dtype: mx.Dtype) -> None:
    qkv, lengths = make_qkv(2, 4, 2, 1, 60, 64, dtype), [60, 21]
    out = answer.decode_attention(*qkv, lengths)
    assert out.dtype == dtype, f"the result has the dtype of q, {dtype}, not {out.dtype}"
    assert_close(out, decode64(qkv, lengths), "sum in float, round at the end", HALF[dtype])


def test_task_3_what_stands_behind_a_length_is_nobodys() -> None:
    lengths = [1, 13, 40, 64]
    qkv = make_qkv(4, 4, 2, 1, 64, 64)
    out = answer.decode_attention(*with_garbage(qkv, lengths), lengths)
    assert_close(out, decode64(qkv, lengths), "behind a row's length there is nan, which is nan when weighted with 0 as well")


@pytest.mark.parametrize("heads", [2, 4, 6])
def test_task_3_each_key_is_read_once_and_none_behind_the_length(heads: int) -> None:
    lengths = [1, 13, 40, 64]
    qkv = make_qkv(4, heads, 2, 1, 128, 64)
    read = bytes_read(lambda: answer.decode_attention(*qkv, lengths))
    want = sum(lengths) * 2 * 64 * 4
    hint = "stop at lengths[b]"
    if heads > 2:
        hint += "; the query heads of a threadgroup share each load: load a key once and use it for all of them"
    for name in "kv":
        # A kernel that takes several keys at a time may read its last one again, instead of one behind the length.
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
    assert_close(out, decode64((q[1:4], k, v), lengths), "k and v are slices of a slab: use k_strides, not the shape")
    for name in "kv":
        size = launches[-1].buffers[name].bytes
        assert size > k.nbytes, f"the kernel was given a copy of {name}: slices are to be read where they lie"


def test_task_3_any_strides() -> None:
    q, k, v = make_qkv(2, 2, 2, 1, 40, 64)
    # The same numbers as in q, k and v, in another order in memory.
    q = mx.contiguous(q.transpose(2, 1, 3, 0)).transpose(3, 1, 0, 2)
    k = mx.contiguous(k.swapaxes(1, 2)).swapaxes(1, 2)
    v = mx.contiguous(v.swapaxes(2, 3)).swapaxes(2, 3)
    lengths = mx.array([40, 0, 11, 0])[::2]
    out = answer.decode_attention(q, k, v, lengths)
    assert_close(out, decode64((q, k, v), [40, 11]), "q, k and v have strides of their own, for each of their axes")


def test_task_3_large_scores_do_not_overflow() -> None:
    qkv, lengths = make_qkv(2, 2, 1, 1, 90, 64, size=300.0), [90, 30]
    out = answer.decode_attention(*qkv, lengths)
    # Scores of a few hundred have an absolute error of about 1e-4 in float32, which is a relative one in the weights.
    assert_close(out, decode64(qkv, lengths), "scores of a few hundred: take the running maximum off first", 1e-3)


@pytest.mark.parametrize("order", ORDERS)
def test_task_3_any_order_of_threads(order: str) -> None:
    qkv, lengths = make_qkv(2, 4, 2, 1, 150, 64), [150, 30]
    assert_close(in_order(order, lambda: answer.decode_attention(*qkv, lengths)), decode64(qkv, lengths), THREADS)


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
        with pytest.raises(ValueError, match=name):
            answer.decode_attention(q, k, v, wrong)
    check_refusals(lambda q, k, v: answer.decode_attention(q, k, v, [8, 1]), 1, unsupported_dim=288)


def check_refusals(attend: Attention, length: int, unsupported_dim: int) -> None:
    """Head counts, head dimensions, shapes and dtypes that no attention kernel takes."""
    for dims, name in [((2, 3, 2, length, 8, 32), "3 query heads"), ((2, 2, 2, length, 8, 48), "48")]:
        with pytest.raises(ValueError, match=name):
            attend(*make_qkv(*dims))
    with pytest.raises(ValueError, match=str(unsupported_dim)):
        attend(*make_qkv(2, 2, 2, length, 8, unsupported_dim))
    q, k, v = make_qkv(2, 2, 2, length, 8, 32)
    with pytest.raises(ValueError, match="float16"):
        attend(q, k.astype(mx.float16), v)
    with pytest.raises(ValueError, match="7"):
        attend(q, k, v[:, :, :7])


# Tasks 4 and 5: flash attention, with and without matrices. One contract, and so the same checks.

CASES = [
    (1, 2, 2, 40, 40, 64, True),
    (2, 4, 2, 5, 70, 64, True),
    (1, 3, 1, 1, 33, 64, True),
    (1, 2, 1, 33, 64, 64, True),
    (1, 1, 1, 64, 64, 64, True),
    (2, 2, 1, 19, 45, 64, False),
    (1, 1, 1, 50, 7, 64, False),
    (1, 2, 1, 37, 41, 128, True),
    (1, 1, 1, 16, 20, 32, True),
]


def check_formula(attend: Attention, case: tuple[int, int, int, int, int, int, bool]) -> None:
    *dims, causal = case
    q, k, v = make_qkv(*dims)
    length, total = dims[3:5]
    hint = f"B, H, KV, L, S, D, causal = {case}: head h reads h // G, query i stands at S − L + i, tiles may be cut off"
    got = attend(q, k, v, causal=causal)
    assert_close(got, attention64(q, k, v, mask=causal64(length, total) if causal else 0.0), hint)


def check_scale(attend: Attention) -> None:
    q, k, v = make_qkv(1, 2, 1, 20, 40, 64)
    want = attention64(q, k, v, 0.3, causal64(20, 40))
    assert_close(attend(q, k, v, 0.3), want, "scale 0.3 instead of 1/√D, and causal unless told otherwise")


def check_half(attend: Attention, dtype: mx.Dtype) -> None:
    q, k, v = make_qkv(1, 2, 1, 20, 40, 64, dtype)
    out = attend(q, k, v)
    assert out.dtype == dtype, f"the result has the dtype of q, {dtype}, not {out.dtype}"
    assert_close(out, attention64(q, k, v, mask=causal64(20, 40)), "sum in float, round at the end", HALF[dtype])


def check_large_scores(attend: Attention) -> None:
    q, k, v = make_qkv(1, 1, 1, 40, 100, 64, size=300.0)
    want = attention64(q, k, v, mask=causal64(40, 100))
    # Scores of a few hundred have an absolute error of about 1e-4 in float32, which is a relative one in the weights.
    assert_close(attend(q, k, v), want, "scores of a few hundred: a running maximum for each row, and rescaled sums", 1e-3)


def check_traffic(attend: Attention) -> None:
    q, k, v = make_qkv(1, 1, 1, 128, 128, 64)
    everything = bytes_read(lambda: attend(q, k, v, causal=False))["k"]
    most = 128 // 8 * k.nbytes
    assert everything <= most, f"{everything} bytes read of k, more than {most}: a tile of keys serves a whole tile of queries"
    causal = bytes_read(lambda: attend(q, k, v, causal=True))["k"]
    assert causal <= 0.8 * everything, f"{causal} bytes read of k, {everything} without the mask: skip tiles that nobody sees"


def check_order(attend: Attention, order: str) -> None:
    q, k, v = make_qkv(1, 2, 1, 40, 70, 64)
    assert_close(in_order(order, lambda: attend(q, k, v)), attention64(q, k, v, mask=causal64(40, 70)), THREADS)


def check_row_alone(attend: Attention) -> None:
    q, k, v = make_qkv(2, 2, 1, 20, 40, 64)
    alone = mx.concatenate([attend(q[b : b + 1], k[b : b + 1], v[b : b + 1]) for b in range(2)])
    assert_close(attend(q, k, v), to_numpy(alone), "a row's result must not depend on its neighbours", 0.0)


def check_errors(attend: Attention) -> None:
    mx.eval(attend(*make_qkv(1, 2, 1, 3, 8, 64)))
    check_refusals(attend, 3, unsupported_dim=160)
    with pytest.raises(ValueError, match="9 queries"):
        attend(*make_qkv(1, 2, 1, 9, 8, 64))


@pytest.mark.parametrize("case", CASES, ids=str)
def test_task_4_the_formula(case: tuple[int, int, int, int, int, int, bool]) -> None:
    check_formula(answer.flash_attention, case)


def test_task_4_a_given_scale() -> None:
    check_scale(answer.flash_attention)


@pytest.mark.parametrize("dtype", HALF)
def test_task_4_half_precision(dtype: mx.Dtype) -> None:
    check_half(answer.flash_attention, dtype)


def test_task_4_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.flash_attention)


def test_task_4_tiles_are_shared_and_skipped() -> None:
    check_traffic(answer.flash_attention)


@pytest.mark.parametrize("order", ORDERS)
def test_task_4_any_order_of_threads(order: str) -> None:
    check_order(answer.flash_attention, order)


def test_task_4_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.flash_attention)


def test_task_4_what_does_not_fit_is_refused() -> None:
    check_errors(answer.flash_attention)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_task_5_the_formula(case: tuple[int, int, int, int, int, int, bool]) -> None:
    check_formula(answer.flash_attention_simdgroup, case)


def test_task_5_a_given_scale() -> None:
    check_scale(answer.flash_attention_simdgroup)


@pytest.mark.parametrize("dtype", HALF)
def test_task_5_half_precision(dtype: mx.Dtype) -> None:
    check_half(answer.flash_attention_simdgroup, dtype)


def test_task_5_large_scores_do_not_overflow() -> None:
    check_large_scores(answer.flash_attention_simdgroup)


def test_task_5_tiles_are_shared_and_skipped() -> None:
    check_traffic(answer.flash_attention_simdgroup)


@pytest.mark.parametrize("order", ORDERS)
def test_task_5_any_order_of_threads(order: str) -> None:
    check_order(answer.flash_attention_simdgroup, order)


def test_task_5_a_row_alone_is_the_row_in_a_batch() -> None:
    check_row_alone(answer.flash_attention_simdgroup)


def test_task_5_what_does_not_fit_is_refused() -> None:
    check_errors(answer.flash_attention_simdgroup)
