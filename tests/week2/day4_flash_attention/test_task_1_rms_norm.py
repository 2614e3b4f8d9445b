"""Week 2 Day 4, task 1: fused RMSNorm, against the formula in float64."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, normal, to_numpy
from support import refuses
from week2.day4_flash_attention.kernel_checks import ORDERS, ROUNDED_ONCE, barrier_hint, bytes_read, in_order


def rms_norm64(x: mx.array, weight: mx.array, eps: float = 1e-5) -> np.ndarray:
    wide = to_numpy(x)
    return wide / np.sqrt((wide**2).mean(axis=-1, keepdims=True) + eps) * to_numpy(weight)


@pytest.mark.parametrize("shape", [(3, 64), (2, 3, 576), (1000,), (2, 33), (1, 2, 1, 5), (2, 5000)], ids=str)
def test_task_1_the_formula(shape: tuple[int, ...]) -> None:
    x, weight = normal(*shape, seed=1), normal(shape[-1], seed=2)
    hint = f"x of shape {shape}: the mean is over the D numbers of each row"
    assert_close(answer.fused_rms_norm(x, weight), rms_norm64(x, weight), hint)


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_half_precision_is_summed_in_float32(dtype: mx.Dtype) -> None:
    x, weight = normal(2, 96, seed=1, size=300.0, dtype=dtype), normal(96, seed=2, dtype=dtype)
    out = answer.fused_rms_norm(x, weight)
    assert out.dtype == dtype, f"the result has the dtype of x, {dtype}, not {out.dtype}"
    assert_close(out, rms_norm64(x, weight), "300² is more than float16 holds: square and add in float", HALF[dtype])


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_half_precision_is_rounded_once(dtype: mx.Dtype) -> None:
    x, weight = normal(4, 576, seed=1, dtype=dtype), normal(576, seed=2, size=100.0, dtype=dtype)
    hint = "x, its factor and the weight are multiplied as float: one T(…) around all of it"
    assert_close(answer.fused_rms_norm(x, weight), rms_norm64(x, weight), hint, ROUNDED_ONCE[dtype])


def test_task_1_eps_stands_under_the_root() -> None:
    weight = normal(64, seed=2)
    for size in (0.0, 1e-3, 1.0):
        x = normal(2, 64, seed=1, size=size)
        hint = f"x of size {size}, eps = 0.01: eps is added to the mean of the squares, under the root"
        assert_close(answer.fused_rms_norm(x, weight, 0.01), rms_norm64(x, weight, 0.01), hint)


@pytest.mark.parametrize("dim", [64, 576])
def test_task_1_x_is_read_once(dim: int) -> None:
    x, weight = normal(3, dim, seed=1), normal(dim, seed=2)
    read = bytes_read(lambda: answer.fused_rms_norm(x, weight))["x"]
    assert read == x.nbytes, f"x has {x.nbytes} bytes, but {read} were read: each thread keeps its numbers in registers"


@pytest.mark.parametrize("order", ORDERS)
def test_task_1_any_order_of_threads(order: str) -> None:
    x, weight = normal(2, 576, seed=1), normal(576, seed=2)
    out = in_order(order, lambda: answer.fused_rms_norm(x, weight))
    assert_close(out, rms_norm64(x, weight), barrier_hint(order))


def test_task_1_a_row_alone_is_the_row_in_a_batch() -> None:
    x, weight = normal(4, 576, seed=1), normal(576, seed=2)
    alone = mx.concatenate([answer.fused_rms_norm(x[i : i + 1], weight) for i in range(4)])
    assert_close(answer.fused_rms_norm(x, weight), to_numpy(alone), "a row's result must not depend on its neighbours", 0.0)


def test_task_1_a_weight_that_does_not_fit_is_refused() -> None:
    x = normal(2, 64, seed=1)
    mx.eval(answer.fused_rms_norm(x, mx.ones(64)))
    with refuses(ValueError, "a weight of 63 numbers does not fit rows of 64", "63"):
        answer.fused_rms_norm(x, mx.ones(63))
