"""SIMD functions of the CPU runner's Metal library, against NumPy."""

from collections.abc import Callable

import mlx.core as mx
import numpy as np
import pytest

from metal.stdlib_checks import THREADS, Check, verify
from metal_anywhere import CompileError, cpu_runner, metal_kernel

EPSILON = {mx.float32: 2**-23, mx.float16: 2**-10, mx.bfloat16: 2**-7}
ORDERS = ("ascending", "descending", "shuffled")
LANE = np.arange(THREADS)


def integers() -> np.ndarray:
    return np.random.default_rng(0).integers(-(2**31), 2**31, THREADS, dtype=np.int32)


def in_groups(x: np.ndarray, function: Callable[[np.ndarray], np.ndarray], width: int = 32) -> np.ndarray:
    """`function` of each row of `width` lanes."""
    with np.errstate(over="ignore"):
        return np.broadcast_to(function(x.reshape(-1, width)), (THREADS // width, width)).reshape(THREADS)


def reductions(x: np.ndarray) -> list[Check]:
    def reduced(function: np.ufunc, width: int = 32) -> np.ndarray:
        return in_groups(x, lambda rows: function.reduce(rows, axis=1, keepdims=True, dtype=x.dtype), width)

    functions = {"sum": np.add, "product": np.multiply, "min": np.minimum, "max": np.maximum}
    return [
        *((f"simd_{name}(x[i])", reduced(function)) for name, function in functions.items()),
        ("quad_sum(x[i])", reduced(np.add, 4)),
    ]


def scans(x: np.ndarray) -> list[Check]:
    def inclusive(rows: np.ndarray, function: np.ufunc) -> np.ndarray:
        return function.accumulate(rows, axis=1, dtype=rows.dtype)

    def exclusive(rows: np.ndarray, function: np.ufunc, start: int) -> np.ndarray:
        return np.hstack([np.full((len(rows), 1), start, rows.dtype), inclusive(rows, function)[:, :-1]])

    return [
        ("simd_prefix_inclusive_sum(x[i])", in_groups(x, lambda rows: inclusive(rows, np.add))),
        ("simd_prefix_exclusive_sum(x[i])", in_groups(x, lambda rows: exclusive(rows, np.add, 0))),
        ("simd_prefix_inclusive_product(x[i])", in_groups(x, lambda rows: inclusive(rows, np.multiply))),
        ("simd_prefix_exclusive_product(x[i])", in_groups(x, lambda rows: exclusive(rows, np.multiply, 1))),
    ]


def shuffles(x: np.ndarray, filling: np.ndarray) -> list[Check]:
    by = 3
    begin, lane = LANE // 32 * 32, LANE % 32
    above, below = begin + (lane + by) % 32, begin + (lane - by) % 32  # around the ends
    past_end, before_begin = lane + by >= 32, lane - by < 0
    return [
        ("simd_shuffle(x[i], (lane * 3 + 1) % 32)", x[begin + (lane * 3 + 1) % 32]),
        ("simd_shuffle_xor(x[i], 3)", x[LANE ^ 3]),
        ("simd_shuffle_xor(x[i], 16)", x[LANE ^ 16]),
        (f"simd_shuffle_up(x[i], {by})", np.where(before_begin, x, x[below])),
        (f"simd_shuffle_down(x[i], {by})", np.where(past_end, x, x[above])),
        (f"simd_shuffle_and_fill_up(x[i], filling[i], {by})", np.where(before_begin, filling[below], x[below])),
        ("simd_broadcast(x[i], 30)", x[begin + 30]),
    ]


def votes(x: np.ndarray) -> list[Check]:
    return [
        ("simd_all(x[i] > 0)", in_groups(x > 0, lambda rows: rows.all(axis=1, keepdims=True))),
        ("simd_all(x[i] == x[i])", 1),
        ("simd_any(x[i] > 0)", in_groups(x > 0, lambda rows: rows.any(axis=1, keepdims=True))),
        ("simd_any(x[i] != x[i])", 0),
    ]


@pytest.mark.parametrize("order", ORDERS)
def test_each_function_on_integers(order: str) -> None:
    x, filling = integers(), np.arange(THREADS, dtype=np.int32)
    checks = [*reductions(x), *scans(x), *shuffles(x, filling), *votes(x)]
    verify(checks, {"x": mx.array(x), "filling": mx.array(filling)}, mx.int32, order=order)


@pytest.mark.parametrize("T", EPSILON, ids=str)
def test_floating_point(T: mx.Dtype) -> None:
    array = mx.random.uniform(0.9, 1.1, (THREADS,), key=mx.random.key(0)).astype(T)
    x = np.array(array.astype(mx.float32))
    checks = [*reductions(x), *scans(x), *shuffles(x, x)]
    # 32 roundings of float32, and one to T at the end: sums of half precision are not accumulated in it.
    verify(checks, {"x": array, "filling": array}, T, tolerance=32 * 2**-23 + EPSILON[T] / 2)


def test_vectors() -> None:
    x = np.random.default_rng(0).integers(-100, 100, (THREADS, 4)).astype(np.int32)
    y = in_groups(x[:, 1], lambda rows: rows.sum(axis=1, keepdims=True))
    w = in_groups(x[:, 3], lambda rows: rows.max(axis=1, keepdims=True))
    before = "int4 v = *(const device int4*)(x + 4 * i);"
    checks = [
        ("simd_sum(v).y", y),
        ("simd_max(v).w", w),
        ("simd_shuffle_xor(v, 1).z", x[LANE ^ 1, 2]),
        ("simd_shuffle(int2(v.zw), 5).x", x[LANE // 32 * 32 + 5, 2]),
        ("simd_prefix_inclusive_sum(v).x", in_groups(x[:, 0], lambda rows: rows.cumsum(axis=1))),
        ("simd_shuffle_and_fill_up(v, int4(7), 31).y", np.where(LANE % 32 == 31, x[LANE // 32 * 32, 1], 7)),
        ("int(simd_sum(half4(v)).x)", in_groups(x[:, 0], lambda rows: rows.sum(axis=1, keepdims=True))),
    ]
    verify(checks, {"x": mx.array(x)}, mx.int32, before=before)


@pytest.mark.parametrize("order", ORDERS)
def test_only_the_lanes_that_are_there_take_part(order: str) -> None:
    x = integers()
    third = LANE % 32 % 3 == 0
    before = "int sum, lowest = 0; if (lane % 3 == 0) { sum = simd_sum(x[i]); } else { sum = simd_sum(x[i]); }\n"
    before += "if (lane > 4) lowest = simd_min(lane);"
    sums = [
        in_groups(np.where(there, x, 0), lambda rows: rows.sum(axis=1, keepdims=True, dtype=np.int32))
        for there in (third, ~third)
    ]
    checks = [
        ("sum", np.where(third, *sums).astype(np.int32)),
        ("lowest", np.where(LANE % 32 > 4, 5, 0)),
    ]
    verify(checks, {"x": mx.array(x)}, mx.int32, before=before, order=order)


def test_a_lane_that_is_not_there_gives_no_value() -> None:
    """Metal leaves it undefined: here it is NaN, so that a test notices."""
    before = "float other = 0; if (lane != 7) other = simd_shuffle(x[i], 7);"
    checks = [("other", np.where(LANE % 32 == 7, 0, np.nan)), ("simd_shuffle(x[i], 32)", np.nan)]
    verify(checks, {"x": mx.ones((THREADS,))}, before=before)


# simdgroup_matrix


def multiply(body: str, *matrices: mx.array, T: mx.Dtype = mx.float32, shape: tuple[int, int] = (8, 8)) -> np.ndarray:
    names = ["a", "b"][: len(matrices)]
    kernel = metal_kernel("matrices", names, ["c"], body)
    with cpu_runner("shuffled"):
        [c] = kernel(
            inputs=list(matrices),
            template=[("T", T)],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[shape],
            output_dtypes=[T],
        )
    return np.array(c.astype(mx.float32))


@pytest.mark.parametrize("T", EPSILON, ids=str)
def test_matrix_product(T: mx.Dtype) -> None:
    """Whole numbers up to 64: no format rounds them, nor their sums of up to 24 products up to 2 x 2, 128 with bfloat."""
    random = np.random.default_rng(0)
    a, b = (random.integers(-2, 3, (8, 24)).astype(np.float32) for _ in "ab")
    body = """
        simdgroup_matrix<T, 8, 8> left, right, sum = make_filled_simdgroup_matrix<T, 8, 8>(T(1));
        for (int k = 0; k < 24; k += 8) {
          simdgroup_load(left, a, 24, ulong2(k, 0));
          simdgroup_load(right, b, 24, ulong2(k, 0), true);
          simdgroup_multiply_accumulate(sum, left, right, sum);
        }
        simdgroup_store(sum, c, 8);"""
    arrays = [mx.array(matrix).astype(T) for matrix in (a, b)]
    np.testing.assert_array_equal(multiply(body, *arrays, T=T), a @ b.T + 1)


def test_matrix_elements_lie_in_lanes_as_on_apple_gpus() -> None:
    """MLX's kernels compute the same places: get_coord in steel/gemm/mma.h."""
    body = """
        simdgroup_float8x8 m;
        m.thread_elements()[0] = thread_index_in_simdgroup;
        m.thread_elements()[1] = thread_index_in_simdgroup + 0.5f;
        simdgroup_store(m, c);"""
    want = np.zeros((8, 8))
    for lane in range(32):
        quad = lane // 4
        row, column = (quad & 4) + lane // 2 % 4, (quad & 2) * 2 + lane % 2 * 2
        want[row, column : column + 2] = lane, lane + 0.5
    np.testing.assert_array_equal(multiply(body), want)


def test_other_matrix_functions() -> None:
    a = np.arange(64, dtype=np.float32).reshape(8, 8)
    body = """
        simdgroup_float8x8 m, twice = simdgroup_float8x8(2.0f), minus = simdgroup_float8x8(-1.0f), d;
        simdgroup_half8x8 h = make_filled_simdgroup_matrix<half, 8, 8>(0.5h);
        simdgroup_load(m, a);
        simdgroup_multiply(d, m, twice);
        simdgroup_store(d, c, 16);
        simdgroup_multiply_accumulate(d, h, minus, d);
        simdgroup_store(d, c, 16, ulong2(8, 0), true);"""
    got = multiply(body, mx.array(a), shape=(8, 16))
    np.testing.assert_array_equal(got, np.hstack([2 * a, (2 * a - 0.5).T]))


def test_a_matrix_is_loaded_from_its_own_type_only() -> None:
    with pytest.raises(CompileError, match="simdgroup_load"):
        multiply("simdgroup_half8x8 m;\nsimdgroup_load(m, a);", mx.ones((8, 8)))
