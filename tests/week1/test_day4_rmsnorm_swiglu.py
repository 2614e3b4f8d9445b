"""Week 1 Day 4: RMSNorm and SwiGLU, against float64 and MLX's own."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from oracles import HALF, assert_close, normal, to_numpy

FORMULA = "x / √(mean(x²) + eps) · weight, the mean over the last axis"


def norm64(x: mx.array, weight: mx.array, eps: float) -> np.ndarray:
    y = to_numpy(x)
    return y / np.sqrt((y**2).mean(axis=-1, keepdims=True) + eps) * to_numpy(weight)


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 5, 64), (2, 3, 4, 16)])
def test_task_1_norm_is_the_formula_over_the_last_axis(shape: tuple[int, ...]) -> None:
    x, weight = 3.0 + normal(*shape, seed=1, size=2.0), normal(shape[-1], seed=2)
    assert_close(answer.RMSNorm(weight, 1e-5)(x), norm64(x, weight, 1e-5), f"{FORMULA}; nothing is subtracted from x")


def test_task_1_norm_is_what_mlx_computes() -> None:
    x, weight = normal(2, 7, 96, seed=3, size=5.0), normal(96, seed=4)
    assert_close(answer.RMSNorm(weight, 1e-6)(x), mx.fast.rms_norm(x, weight, 1e-6), FORMULA)


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_task_1_eps_is_added_under_the_root(size: float) -> None:
    x, weight = normal(4, 16, seed=5, size=size), normal(16, seed=6)
    for eps in (1e-6, 0.3):
        hint = f"eps={eps} is added to mean(x²), before the root"
        assert_close(answer.RMSNorm(weight, eps)(x), norm64(x, weight, eps), hint)


def test_task_1_a_vector_of_zeros_stays_zero() -> None:
    got = answer.RMSNorm(mx.ones(8), 1e-5)(mx.zeros((2, 8)))
    assert_close(got, np.zeros((2, 8)), "0 / √(0 + eps) is 0, not nan")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_task_1_the_mean_is_taken_in_float32(dtype: mx.Dtype, size: float) -> None:
    x, weight = normal(3, 2048, seed=7, size=size, dtype=dtype), normal(2048, seed=8, dtype=dtype)
    hint = "in float16 x² overflows above 255 and loses digits below 0.008: take the mean of squares in float32"
    assert_close(answer.RMSNorm(weight, 1e-8)(x), norm64(x, weight, 1e-8), hint, HALF[dtype])


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_the_result_has_the_dtype_of_x(dtype: mx.Dtype) -> None:
    x = normal(3, 16, seed=9, dtype=dtype)
    for weight in (mx.ones(16, dtype=dtype), mx.ones(16)):
        got = answer.RMSNorm(weight)(x).dtype
        assert got == dtype, f"x is {dtype} and weight {weight.dtype}: the result should be {dtype}, not {got}"


def silu64(x: mx.array) -> np.ndarray:
    y = to_numpy(x)
    return y * np.where(y < 0, np.exp(np.minimum(y, 0)), 1.0) / (1.0 + np.exp(-np.abs(y)))


def test_task_2_silu_is_the_formula() -> None:
    x = mx.concatenate([mx.linspace(-20, 20, 201), normal(50, seed=1)]).reshape(251, 1)
    assert_close(answer.silu(x), silu64(x), "x · sigmoid(x) = x / (1 + e^−x)")


def test_task_2_silu_of_large_numbers_is_their_positive_part() -> None:
    x = mx.array([-1e30, -1000.0, -100.0, 0.0, 100.0, 1000.0, 1e30])
    assert_close(answer.silu(x), np.maximum(to_numpy(x), 0.0), "x for large x and 0 for large −x: no inf / inf, no inf · 0")


@given(st.floats(width=32, allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_task_2_silu_is_finite(x: float) -> None:
    assert_close(answer.silu(mx.array([x])), silu64([x]), f"silu({x})")


@pytest.mark.parametrize("dtype", HALF)
def test_task_2_silu_keeps_half_precision(dtype: mx.Dtype) -> None:
    x = mx.concatenate([normal(50, seed=2, size=3.0), mx.array([-6e4, -50.0, 50.0, 6e4])]).astype(dtype)
    got = answer.silu(x)
    assert got.dtype == dtype, f"the result should have the dtype of x, {dtype}, not {got.dtype}"
    assert_close(got, silu64(x), "x · sigmoid(x) in half precision, where e^x overflows above 11", HALF[dtype])


def mlp64(x: mx.array, gate: mx.array, up: mx.array, down: mx.array) -> np.ndarray:
    y, g, u, d = (to_numpy(part) for part in (x, gate, up, down))
    return (silu64(y @ g.T) * (y @ u.T)) @ d.T


@pytest.mark.parametrize("shape", [(8,), (3, 8), (2, 5, 8)])
@pytest.mark.parametrize("pair", [tuple, list])
def test_task_3_the_mlp_is_down_of_silu_of_gate_times_up(shape: tuple[int, ...], pair: type) -> None:
    x = normal(*shape, seed=1)
    gate, up, down = normal(12, 8, seed=2), normal(12, 8, seed=3), normal(8, 12, seed=4)
    mlp = answer.MLP(lambda y: pair([y @ gate.T, y @ up.T]), lambda y: y @ down.T)
    assert_close(mlp(x), mlp64(x, gate, up, down), "down(silu(gate) · up), where gate_up(x) gives (gate, up) in this order")


def test_task_3_only_the_gate_goes_through_silu() -> None:
    x = mx.array([[-30.0, 2.0]])
    closed = answer.MLP(lambda y: (y, mx.ones_like(y)), lambda y: y)(x)
    assert_close(closed, silu64(x), "with up = 1 and nothing below, the MLP is silu(gate): −30 closes the gate")
    passed = answer.MLP(lambda y: (mx.full(y.shape, 40.0), y), lambda y: y)(x)
    assert_close(passed, 40.0 * to_numpy(x), "with a gate of 40, up comes through 40 times as large, negative numbers too")


def test_task_3_down_is_applied_last() -> None:
    x = mx.array([[1.0, -2.0]])
    got = answer.MLP(lambda y: (y, 3.0 * y), lambda y: y + 100.0)(x)
    assert_close(got, silu64(x) * 3.0 * to_numpy(x) + 100.0, "`down` takes silu(gate) · up, and its result is the MLP's")
