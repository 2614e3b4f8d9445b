"""Week 2 Day 4, task 2: online softmax, against the formula in float64."""

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import HALF, assert_close, normal, softmax64
from week2.day4_flash_attention.kernel_checks import ORDERS, bytes_read, in_order


@pytest.mark.parametrize("shape", [(2, 3, 100), (3, 32), (2, 33), (2, 7), (4, 1), (1000,)], ids=str)
def test_task_2_the_formula(shape: tuple[int, ...]) -> None:
    x = normal(*shape, seed=1)
    idle = "some lanes have nothing to read, and must change neither the maximum nor the sum"
    relative = "each lane's l is relative to its own m: rescale it to the common maximum before they are added"
    hint = f"x of shape {shape}: {idle if shape[-1] < 32 else relative}"
    assert_close(answer.online_softmax(x), softmax64(x), hint)


@pytest.mark.parametrize("size", [300.0, -300.0, 1e4])
def test_task_2_large_scores_do_not_overflow(size: float) -> None:
    x = size + normal(2, 100, seed=1, size=abs(size))
    hint = f"e^{abs(size):g} is infinite in float: subtract the running maximum first"
    assert_close(answer.online_softmax(x), softmax64(x), hint)


@pytest.mark.parametrize("sign", [1, -1], ids=["rising", "falling"])
def test_task_2_a_new_maximum_rescales_the_sum(sign: int) -> None:
    x = sign * mx.arange(200.0)[None] / 20
    assert_close(answer.online_softmax(x), softmax64(x), "when m grows, the old sum is multiplied by exp(m − m_new)")


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
    hint = f"with the threads in {order} order: if the other tests pass, lanes exchange numbers without a SIMD function"
    assert_close(in_order(order, lambda: answer.online_softmax(x)), softmax64(x), hint)
