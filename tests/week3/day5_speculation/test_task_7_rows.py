"""Week 3 Day 5, task 7: a group of numbers as integers, scale and bias, and back."""

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from launching_ahead import waits_for_nothing
from oracles import normal, to_numpy
from support import refuses
from week3.day5_speculation.quantized_checks import EPSILON, assert_near, assert_same, roundtrip, store_once, unreadable

each_bits = pytest.mark.parametrize("bits", [8, 4])


@each_bits
@pytest.mark.parametrize("dtype", EPSILON)
def test_task_7_a_number_comes_back_within_half_a_step(bits: int, dtype: mx.Dtype) -> None:
    x = normal(1, 3, 7, 64, seed=1, dtype=dtype)
    assert_near(roundtrip(x, bits), x, bits, f"{dtype} in {bits} bits")


@each_bits
@pytest.mark.parametrize("group_size", [8, 16, 32, 64, 128])
def test_task_7_each_group_has_its_own_scale_and_bias(bits: int, group_size: int) -> None:
    sizes = mx.array(10.0 ** np.arange(-3, 5), dtype=mx.float32)[:, None]
    x = (normal(2, 5, 8, group_size, seed=2) * sizes + 3 * sizes).reshape(2, 5, -1)
    assert_near(roundtrip(x, bits, group_size), x, bits, f"groups of {group_size} whose numbers differ in size", group_size)


@each_bits
@settings(max_examples=40)
@given(data=st.data())
def test_task_7_any_numbers(bits: int, data: st.DataObject) -> None:
    size = 10.0 ** data.draw(st.integers(-12, 12), label="size, as a power of 10")
    numbers = data.draw(st.lists(st.integers(-1000, 1000), min_size=32, max_size=32), label="numbers")
    x = mx.array(np.array([numbers]) * size, dtype=mx.float32)
    assert_near(roundtrip(x, bits), x, bits, "a group of 32")


@each_bits
@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("number", [0.0, 3.25, -1000.0])
def test_task_7_equal_numbers_come_back_exactly(bits: int, dtype: mx.Dtype, number: float) -> None:
    x = mx.full((2, 1, 64), number, dtype=dtype)
    assert_same(roundtrip(x, bits), x, f"64 times {number} as {dtype}: the scale of a group of equal numbers is 0")


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_task_7_the_nearest_integer_with_the_scale_as_it_is_stored(dtype: mx.Dtype) -> None:
    """The numbers are negative and the largest ones nearly 0, so that the result itself is hardly rounded."""
    x = -(mx.abs(normal(40, 32, seed=10, dtype=dtype)) ** 3)
    low, high = (extreme.astype(mx.float32) for extreme in (x.min(-1, keepdims=True), x.max(-1, keepdims=True)))
    scale = ((high - low) / 255).astype(dtype)
    stored = to_numpy(scale)[..., None] * np.arange(256) + to_numpy(low)[..., None]  # (groups, 1, 256)
    exact = to_numpy(x)
    nearest = np.abs(exact[..., None] - stored).min(axis=-1)
    off = np.abs(to_numpy(roundtrip(x, 8)) - exact)
    wrong = ~(off <= nearest + EPSILON[dtype] * np.abs(exact) + 1e-3 * to_numpy(scale))
    assert not wrong.any(), (
        f"{dtype}: for {wrong.sum()} of {wrong.size} numbers, another integer comes nearer with the scale as it is stored,"
        " which is rounded: divide by that scale"
    )


@each_bits
def test_task_7_the_whole_range_of_half_precision(bits: int) -> None:
    x = mx.array([[60000.0, -60000.0] + [float(i) for i in range(30)]], dtype=mx.float16)
    assert_near(roundtrip(x, bits), x, bits, "largest − smallest can be more than float16 holds, and the scale is not")


@each_bits
def test_task_7_zeros_stand_for_zeros(bits: int) -> None:
    rows = answer.quantize_rows(normal(1, 2, 3, 64, seed=3), bits)
    for dtype in EPSILON:
        words = mx.zeros((4, *answer.quantize_rows(normal(1, 64, seed=4, dtype=dtype), bits).shape[1:]), dtype=mx.uint32)
        got = answer.dequantize_rows(words, bits, 32, dtype)
        assert_same(got, mx.zeros((4, 64)), f"{dtype}: `fresh` slots are set to 0, and a row of zero words stands for zeros")
    assert rows.shape[:-1] == (1, 2, 3), f"a row per token and head: (1, 2, 3, W), not {rows.shape}"


@each_bits
@pytest.mark.parametrize("dtype", EPSILON)
@pytest.mark.parametrize("group_size", [16, 32])
def test_task_7_a_row_is_as_small_as_it_can_be(bits: int, dtype: mx.Dtype, group_size: int) -> None:
    rows = answer.quantize_rows(normal(3, 5, 64, seed=5, dtype=dtype), bits, group_size)
    assert rows.dtype == mx.uint32, f"rows are uint32, not {rows.dtype}"
    want = 64 * bits // 8 + 64 // group_size * 2 * dtype.size
    got = rows.nbytes // 15
    assert got == want, (
        f"64 numbers of {dtype} in {bits} bits, in groups of {group_size}: integers of {bits} bits, a scale and a bias in"
        f" {dtype} per group make {want} bytes, not {got}"
    )


@each_bits
def test_task_7_a_token_is_quantized_alone(bits: int) -> None:
    x = normal(1, 2, 9, 64, seed=6)
    together = answer.quantize_rows(x, bits)
    for token in (0, 4, 8):
        alone = answer.quantize_rows(x[:, :, token : token + 1], bits)
        assert_same(together[:, :, token : token + 1], alone, f"token {token} of 9 is stored as it is stored alone")
    other = mx.array(x)
    other[0, 1, 3, 32:] = 1e6
    near = mx.concatenate([roundtrip(y, bits)[0, 1, 3, :32] for y in (x, other)]).reshape(2, 32)
    assert_same(near[0], near[1], "a group's neighbour in the same head has other numbers, and that changes nothing in it")


@each_bits
@pytest.mark.parametrize("bad", [mx.nan, mx.inf, -mx.inf])
def test_task_7_nan_and_infinity_can_be_seen_afterwards(bits: int, bad: float) -> None:
    x = normal(1, 2, 4, 64, seed=7)
    sick = mx.array(x)
    sick[0, 1, 2, 40] = bad
    got, healthy = to_numpy(roundtrip(sick, bits)), to_numpy(roundtrip(x, bits))
    assert not np.isfinite(got[0, 1, 2, 32:]).any(), (
        f"a group that holds {bad} is NaN, so that its request can be ended: numbers that look sound would be a wrong answer"
    )
    got[0, 1, 2, 32:] = healthy[0, 1, 2, 32:]
    assert_same(mx.array(got), mx.array(healthy), f"one group holds {bad}: all others are as they would be without")


@each_bits
def test_task_7_nothing_is_read_back(bits: int) -> None:
    x = unreadable(normal(1, 2, 3, 64, seed=8))
    with waits_for_nothing("quantize_rows or dequantize_rows"):
        roundtrip(x, bits)


@each_bits
def test_task_7_a_view_of_a_larger_array(bits: int) -> None:
    x = normal(3, 2, 64, 5, seed=9).swapaxes(-1, -2)
    assert_near(roundtrip(x, bits), x, bits, "keys come as a transposed view")
    rows = answer.quantize_rows(x, bits)
    back = answer.dequantize_rows(rows.swapaxes(0, 1)[1:], bits, 32, x.dtype)
    assert_same(back, roundtrip(x, bits).swapaxes(0, 1)[1:], "rows that are a part of others")


@pytest.mark.parametrize("bits", [0, 2, 3, 16, -8])
def test_task_7_other_bits_are_refused(bits: int) -> None:
    store_once()
    with refuses(ValueError, f"{bits} bits: only 4 and 8 fill words", named=f"{bits}"):
        answer.quantize_rows(normal(1, 64, seed=1), bits)
    with refuses(ValueError, f"a cache with {bits} bits", named=f"{bits}"):
        answer.QuantizedKvCache(4, 4, bits)


@pytest.mark.parametrize(("dim", "group_size"), [(48, 32), (16, 32), (72, 16), (64, 12)])
def test_task_7_rows_that_cannot_be_cut_are_refused(dim: int, group_size: int) -> None:
    store_once()
    with refuses(ValueError, f"heads of {dim} numbers in groups of {group_size}", named=f"{group_size}"):
        answer.quantize_rows(normal(1, dim, seed=1), 8, group_size)
