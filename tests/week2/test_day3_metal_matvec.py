"""Week 2 Day 3: Metal kernels. Numbers against float64, on whatever machine there is; threads and bytes on the CPU runner."""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from metal_anywhere import cpu_runner
from oracles import FLOAT32, HALF, assert_close, normal, to_numpy
from support import refuses
from tiny_llm_kit.models.quantized import QuantizedWeight

Matvec = Callable[[mx.array, QuantizedWeight], mx.array]

# Sums are taken in float32 and rounded once to the dtype of the result: by half a unit in the last of its 11 or 8 binary
# places, which is 2^-11 or 2^-8 of the number. Twice that is allowed. A sum taken in half precision is off by more.
ROUNDED_ONCE = {mx.float32: FLOAT32, mx.float16: 2**-10, mx.bfloat16: 2**-7}

# (bits, group size, dtype of x, dtype of scales and biases): each value with each other one somewhere, not all combinations,
# because each is compiled for each kernel.
FORMATS = [
    (4, 32, mx.float32, mx.float16),
    (4, 64, mx.float16, mx.float16),
    (4, 128, mx.bfloat16, mx.bfloat16),
    (8, 32, mx.float16, mx.float32),
    (8, 64, mx.bfloat16, mx.bfloat16),
    (8, 128, mx.float32, mx.float32),
]
Format = tuple[int, int, mx.Dtype, mx.Dtype]
all_formats = pytest.mark.parametrize("format", FORMATS, ids=lambda f: f"{f[0]}bit-g{f[1]}-{str(f[2])[9:]}-{str(f[3])[9:]}")
all_orders = pytest.mark.parametrize("order", ["descending", "shuffled"])

COUNTED = (64, 1024, FORMATS[1])  # N, K: two rows of x are sent through this weight where bytes are counted


def quantized(N: int, K: int, format: Format = FORMATS[0], seed: int = 0) -> QuantizedWeight:
    """Noise of such a size that x Wᵀ is about 1, with a mean that is not 0, so that biases matter."""
    bits, group_size, _, dtype = format
    full = normal(N, K, seed=seed, size=K**-0.5) + 0.5 * K**-0.5
    return QuantizedWeight(*mx.quantize(full.astype(dtype), group_size=group_size, bits=bits), group_size, bits)


def check(matvec: Matvec, x: mx.array, weight: QuantizedWeight, when: str) -> None:
    got = matvec(x, weight)
    assert got.dtype == x.dtype, f"{when}: the result has x's dtype, {x.dtype}, not {got.dtype}"
    want = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T
    assert_close(got, want, when, ROUNDED_ONCE[x.dtype])


def check_numbers(matvec: Matvec, format: Format) -> None:
    _, group_size, dtype, _ = format
    # 1152 numbers are more than 32 lanes read in one go, and not a multiple of it; a single group is less.
    for N, K in ((13, 1152), (6, group_size)):
        x = normal(2, K, seed=N, dtype=dtype)
        check(matvec, x, quantized(N, K, format), f"two rows of {K} numbers, {N} rows of W")


def check_shapes(matvec: Matvec) -> None:
    weight = quantized(5, 64)
    for shape in ((64,), (1, 1, 64), (3, 64), (2, 3, 64)):
        check(matvec, normal(*shape, seed=1), weight, f"x {shape}: every axis but the last is kept")
    check(matvec, normal(64, 3, seed=1).T, weight, "x is a transposed view")


def check_order(matvec: Matvec, order: Any) -> None:
    with cpu_runner(order=order):
        check(matvec, normal(2, 192, seed=2), quantized(11, 192), f"threads run in {order} order, which must not matter")


def check_refusals(matvec: Matvec) -> None:
    weight = quantized(5, 64)
    with refuses(ValueError, "x (1, 96) does not fit a weight of 64 columns: look at its last axis", "96"):
        matvec(normal(1, 96, seed=1), weight)
    with refuses(ValueError, "the kernels take floating x only: look at its dtype", "int32"):
        matvec(mx.ones((1, 64), dtype=mx.int32), weight)
    with refuses(ValueError, "the kernels know 4 and 8 bits: look at weight.bits", "3"):
        matvec(normal(1, 64, seed=1), QuantizedWeight(*mx.quantize(normal(5, 64, seed=1), group_size=32, bits=3), 32, 3))


def count(matvec: Matvec) -> Any:
    """What happened when two rows went through the COUNTED weight."""
    N, K, format = COUNTED
    with cpu_runner() as launches:
        mx.eval(matvec(normal(2, K, seed=1, dtype=format[2]), quantized(N, K, format)))
    assert len(launches) == 1, f"one launch does all rows of x, not {len(launches)}"
    return launches[0]


def check_weight_is_read_once(launch: Any) -> None:
    weight = launch.buffers["w"]
    assert weight.bytes_read <= 2 * weight.bytes, (
        f"two rows of x and {weight.bytes} bytes of packed words make {2 * weight.bytes} bytes to read, "
        f"not {weight.bytes_read}: load a word once, and take all numbers out of it"
    )
    for name in ("scales", "biases"):
        assert launch.buffers[name].loads <= 2 * weight.bytes // 4, (
            f"{launch.buffers[name].loads} loads of {name}: one a group is enough, and more than one a word is waste"
        )
    out = launch.buffers["out"]
    assert out.bytes_written <= out.bytes, f"each number is written once: {out.bytes} bytes, not {out.bytes_written}"


# Task 1: hello, grid


@pytest.mark.parametrize("dtype", ROUNDED_ONCE, ids=lambda dtype: str(dtype)[9:])
def test_task_1_every_number_gets_a_thread(dtype: mx.Dtype) -> None:
    for n in (1, 31, 256, 1000, 4097):
        x, y = normal(n, seed=1, dtype=dtype), normal(n, seed=2, dtype=dtype)
        got = answer.scaled_add(-1.5, x, y)
        assert got.dtype == dtype, f"the result has x's dtype, {dtype}, not {got.dtype}"
        hint = f"a * x + y for {n} numbers, whether or not they fill the last threadgroup"
        assert_close(got, -1.5 * to_numpy(x) + to_numpy(y), hint, ROUNDED_ONCE[dtype])


@pytest.mark.parametrize("dtype", HALF, ids=lambda dtype: str(dtype)[9:])
def test_task_1_rounded_once(dtype: mx.Dtype) -> None:
    # y cancels a · x, which is about 100, up to its own rounding. Float32 knows that remainder to about 1e-5; where the product
    # is rounded to T, it is lost, and a rounded `a` is off by 2e-4 of itself (float16) or more.
    x = normal(1000, seed=1, size=1000.0, dtype=dtype)
    y = (-0.1 * x.astype(mx.float32)).astype(dtype)
    want = 0.1 * to_numpy(x) + to_numpy(y)
    hint = "y is about -a * x: keep a, the product and the sum in float, and round with one T(...) around all of it"
    assert_close(answer.scaled_add(0.1, x, y), want, hint, ROUNDED_ONCE[dtype])


@pytest.mark.parametrize("shape", [(), (5,), (3, 7, 11)], ids=str)
def test_task_1_any_shape(shape: tuple[int, ...]) -> None:
    x, y = normal(*shape, seed=1), normal(*shape, seed=2)
    assert_close(answer.scaled_add(2.0, x, y), 2.0 * to_numpy(x) + to_numpy(y), f"x and y of shape {shape}")


def test_task_1_views_are_what_they_show() -> None:
    x, y = normal(20, 30, seed=1), normal(30, 20, seed=2).T
    assert_close(answer.scaled_add(0.5, x, y), 0.5 * to_numpy(x) + to_numpy(y), "y is a transposed view")


@all_orders
def test_task_1_the_order_of_threads_does_not_matter(order: Any) -> None:
    x, y = normal(700, seed=1), normal(700, seed=2)
    with cpu_runner(order=order):
        assert_close(answer.scaled_add(2.0, x, y), 2.0 * to_numpy(x) + to_numpy(y), f"threads run in {order} order")


def test_task_1_a_thread_a_number() -> None:
    n = 5000
    with cpu_runner() as launches:
        mx.eval(answer.scaled_add(2.0, normal(n, seed=1), normal(n, seed=2)))
    assert len(launches) == 1, "one launch does all numbers"
    launch = launches[0]
    assert n <= launch.threads < n + 1024, (
        f"{n} numbers, {launch.threads} threads: the grid is counted in threads, and at most the last threadgroup may be cut"
    )
    for name in ("x", "y"):
        traffic = launch.buffers[name]
        assert traffic.bytes_read <= traffic.bytes, f"{name} has {traffic.bytes} bytes, and {traffic.bytes_read} were read"


def test_task_1_x_and_y_are_alike() -> None:
    assert_close(answer.scaled_add(1.0, mx.ones(3), mx.ones(3)), [2, 2, 2], "1 · x + y")
    with refuses(ValueError, "x has 3 numbers and y has 4: compare their shapes", "4"):
        answer.scaled_add(1.0, mx.ones(3), mx.ones(4))
    with refuses(ValueError, "x is float32 and y is float16: compare their dtypes", "float16"):
        answer.scaled_add(1.0, mx.ones(3), mx.ones(3, dtype=mx.float16))


# Task 2: one output per thread


@all_formats
def test_task_2_the_numbers_are_right(format: Format) -> None:
    check_numbers(answer.matvec_thread, format)


def test_task_2_x_of_any_shape() -> None:
    check_shapes(answer.matvec_thread)


@all_orders
def test_task_2_the_order_of_threads_does_not_matter(order: Any) -> None:
    check_order(answer.matvec_thread, order)


def test_task_2_what_does_not_fit_is_refused() -> None:
    check_numbers(answer.matvec_thread, FORMATS[0])
    check_refusals(answer.matvec_thread)


def test_task_2_a_thread_for_each_number_of_the_result() -> None:
    N = COUNTED[0]
    launch = count(answer.matvec_thread)
    assert 2 * N <= launch.threads < 2 * (N + 1024), (
        f"two rows of {N} results are {2 * N} threads, and the rest of a threadgroup, but {launch.threads} ran"
    )


def test_task_2_each_word_is_read_once() -> None:
    check_weight_is_read_once(count(answer.matvec_thread))


# Task 3: a SIMD group per row


@all_formats
def test_task_3_the_numbers_are_right(format: Format) -> None:
    check_numbers(answer.matvec_simd, format)


def test_task_3_x_of_any_shape() -> None:
    check_shapes(answer.matvec_simd)


@all_orders
def test_task_3_the_order_of_threads_does_not_matter(order: Any) -> None:
    check_order(answer.matvec_simd, order)


def test_task_3_what_does_not_fit_is_refused() -> None:
    check_numbers(answer.matvec_simd, FORMATS[0])
    check_refusals(answer.matvec_simd)


def test_task_3_32_lanes_for_each_number_of_the_result() -> None:
    N = COUNTED[0]
    launch = count(answer.matvec_simd)
    assert launch.threads >= 32 * 2 * N, f"32 lanes for each of {2 * N} results are {64 * N} threads, but {launch.threads} ran"
    assert launch.simd_operations > 0, "the lanes' sums meet in a SIMD operation: simd_sum"


def test_task_3_the_lanes_share_the_work() -> None:
    N, K, _ = COUNTED
    launch = count(answer.matvec_simd)
    check_weight_is_read_once(launch)
    x = launch.buffers["x"]
    assert x.bytes_read <= N * x.bytes, (
        f"x has {x.bytes} bytes, and each of {N} SIMD groups reads it once: {N * x.bytes}, not {x.bytes_read}. "
        f"A lane reads only those of the {K} numbers that its words go with"
    )


# Task 4: vectorised loads


@all_formats
def test_task_4_the_numbers_are_right(format: Format) -> None:
    check_numbers(answer.matvec_vector, format)


@pytest.mark.parametrize("N", [1, 2, 3, 4, 5, 7, 8, 9, 17, 33])
def test_task_4_any_number_of_rows_of_w(N: int) -> None:
    hint = f"{N} rows of W, which may not be a multiple of the rows that a SIMD group works on"
    check(answer.matvec_vector, normal(1, 64, seed=1), quantized(N, 64), hint)


def test_task_4_x_of_any_shape() -> None:
    check_shapes(answer.matvec_vector)


@all_orders
def test_task_4_the_order_of_threads_does_not_matter(order: Any) -> None:
    check_order(answer.matvec_vector, order)


def test_task_4_what_does_not_fit_is_refused() -> None:
    check_numbers(answer.matvec_vector, FORMATS[0])
    check_refusals(answer.matvec_vector)


def test_task_4_loads_are_wide() -> None:
    launch = count(answer.matvec_vector)
    check_weight_is_read_once(launch)
    weight = launch.buffers["w"]
    width = weight.bytes_read / weight.loads
    assert width >= 8, f"a load of packed weights brings {width:.3g} bytes on average: a uint4 brings 16"


def test_task_4_several_rows_of_w_use_what_was_read_of_x() -> None:
    N, _, _ = COUNTED
    x = count(answer.matvec_vector).buffers["x"]
    times = x.bytes_read / x.bytes
    assert times <= N / 2, (
        f"x was read {times:.3g} times for {N} rows of W: give a SIMD group several rows, and read x once for all of them"
    )


def test_task_4_extreme_words() -> None:
    codes = np.array([0, 0xFFFFFFFF, 0xF0F0F0F0, 1 << 31], dtype=np.uint32)
    for format in FORMATS[:4]:
        bits, group_size, dtype, scale_dtype = format
        words = np.random.default_rng(3).choice(codes, (6, 2 * group_size * bits // 32))
        scales, biases = mx.full((6, 2), 2.0**-bits).astype(scale_dtype), mx.array([[0.5, -0.5]] * 6).astype(scale_dtype)
        weight = QuantizedWeight(mx.array(words), scales, biases, group_size, bits)
        hint = f"{bits} bits, words of all bits, none, the highest: look at masks and shifts"
        check(answer.matvec_vector, normal(2, 2 * group_size, seed=4, dtype=dtype), weight, hint)
