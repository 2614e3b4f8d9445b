"""MLX's own kernels under the CPU runner: they were written for Apple's GPUs by others, and tested there.

What they compute is compared with what MLX computes on the CPU, in float32.
"""

import contextlib
import math
import os
import shutil

import mlx.core as mx
import numpy as np
import pytest

from metal.mlx_kernels import EPSILON, assert_close, each_dtype, header, launch, name_of, random, rounding
from metal_anywhere import NoCompiler
from metal_anywhere.toolchain import find_compiler

# Rows


@pytest.mark.parametrize("accumulator", ["T", "float"])
@each_dtype
def test_softmax_single_row(T: mx.Dtype, accumulator: str) -> None:
    rows, size = 5, 130  # 33 threads with 4 elements each
    x = random(rows, size, dtype=T)
    body = f"""
        int size = {size};
        softmax_single_row<T, {accumulator}>(
            x, y, size, threadgroup_position_in_grid.x, thread_position_in_threadgroup.x,
            thread_index_in_simdgroup, simdgroup_index_in_threadgroup);"""
    # Accumulated in T: exp, the sums of 4, of 32 and of 2 terms, the reciprocal and the product each round to T.
    tolerance = rounding(T, size) + (8 * EPSILON[T] if accumulator == "T" else 0)
    for [y] in launch(header("softmax"), body, {"x": x}, {"y": (x.shape, T)}, (rows, 1, 1), (64, 1, 1), T=T):
        assert_close(y, mx.softmax(x.astype(mx.float32), axis=-1), tolerance)


@each_dtype
def test_softmax_looped(T: mx.Dtype) -> None:
    rows, size = 2, 5000  # more than 1024 threads read at a time; with fewer threads MLX does not launch this kernel
    x = random(rows, size, dtype=T)
    body = f"""
        int size = {size};
        softmax_looped<T, float>(
            x, y, size, threadgroup_position_in_grid.x, thread_position_in_threadgroup.x, threads_per_threadgroup.x,
            thread_index_in_simdgroup, simdgroup_index_in_threadgroup);"""
    for [y] in launch(header("softmax"), body, {"x": x}, {"y": (x.shape, T)}, (rows, 1, 1), (1024, 1, 1), T=T):
        assert_close(y, mx.softmax(x.astype(mx.float32), axis=-1), rounding(T, size))


def test_logsumexp() -> None:
    rows, size = 3, 300
    x = random(rows, size)
    body = f"""
        int size = {size};
        logsumexp<T, float>(
            x, y, size, threadgroup_position_in_grid.x, thread_position_in_threadgroup.x,
            thread_index_in_simdgroup, simdgroup_index_in_threadgroup);"""
    outputs = {"y": ((rows,), mx.float32)}
    for [y] in launch(header("logsumexp"), body, {"x": x}, outputs, (rows, 1, 1), (96, 1, 1), T=mx.float32):
        assert_close(y, mx.logsumexp(x, axis=-1), rounding(mx.float32, size))


# Math, element by element


@each_dtype
def test_unary_operations(T: mx.Dtype) -> None:
    """Against the C library in double precision: on a CPU, MLX's own exp is right to some 1e-5 only."""
    x = mx.random.uniform(0.25, 3.0, (200,), key=mx.random.key(0)).astype(T)
    operations = {
        "Exp": np.exp, "Log": np.log, "Log1p": np.log1p, "Sqrt": np.sqrt, "Rsqrt": lambda x: 1 / np.sqrt(x), "Tanh": np.tanh,
        "Sin": np.sin, "Cosh": np.cosh, "ArcTan": np.arctan, "Erf": np.vectorize(math.erf), "Expm1": np.expm1,
        "Sigmoid": lambda x: 1 / (1 + np.exp(-x)), "Floor": np.floor, "Round": np.round, "Negative": np.negative,
        "Square": np.square, "Sign": np.sign,
    }  # fmt: skip
    calls = (f"unary_v<T, T, {name}, 1>(x, y_{name}, size, thread_position_in_grid.x);\n" for name in operations)
    body = f"uint size = {x.size};\n{''.join(calls)}"
    outputs = {f"y_{name}": (x.shape, T) for name in operations}
    exact = np.array(x.astype(mx.float32), np.float64)
    for results in launch(header("unary_ops", "unary"), body, {"x": x}, outputs, (2, 1, 1), (100, 1, 1), T=T):
        for operation, y in zip(operations.values(), results, strict=True):
            # Some round in between, as 1 + exp(-x). MLX's expm1, and so its erf, takes x / log(2) <= 5 times a log(2) without
            # its lower bits, 1.4e-6.
            assert_close(y, mx.array(operation(exact).astype(np.float32)), 2 * EPSILON[T] + 5 * 1.4e-6)


# Attention

HEADS, KV_HEADS, D = 6, 2, 64


def attention(q: mx.array, k: mx.array, v: mx.array, mask: str | None = None) -> mx.array:
    """Computed by MLX in float32, of the numbers that the kernel gets."""
    q, k, v = (array.astype(mx.float32) for array in (q, k, v))
    return mx.fast.scaled_dot_product_attention(q, k, v, scale=D**-0.5, mask=mask)


def queries_keys_values(queries: int, keys: int, T: mx.Dtype) -> dict[str, mx.array]:
    return {
        "q": random(1, HEADS, queries, D, dtype=T, seed=1),
        "k": random(1, KV_HEADS, keys, D, dtype=T, seed=2),
        "v": random(1, KV_HEADS, keys, D, dtype=T, seed=3),
    }


SDPA_CONSTANTS = dict.fromkeys(["has_mask", "query_transposed", "do_causal", "bool_mask", "float_mask", "has_sinks"], False)


@pytest.mark.parametrize("queries", [1, 3])
@each_dtype
def test_sdpa_vector(T: mx.Dtype, queries: int) -> None:
    keys, causal = 50, queries > 1
    arrays = queries_keys_values(queries, keys, T)
    body = f"""
        sdpa_vector<T, {D}>(
            q, k, v, y, {HEADS // KV_HEADS}, {keys}, {keys * D}, {D}, {keys * D}, {D}, {D**-0.5}f,
            nullptr, nullptr, 0, 0, 0, nullptr, 0,
            threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);"""
    head = header("sdpa_vector", constants=SDPA_CONSTANTS | {"do_causal": causal})
    want = attention(**arrays, mask="causal" if causal else None)
    for [y] in launch(head, body, arrays, {"y": (want.shape, T)}, (HEADS, queries, 1), (1024, 1, 1), T=T):
        assert_close(y, want, rounding(T, D + keys))


@pytest.mark.parametrize("T", [mx.float32, mx.bfloat16], ids=name_of)
def test_sdpa_vector_in_two_passes(T: mx.Dtype) -> None:
    keys, blocks = 80, 32
    arrays = queries_keys_values(1, keys, T)
    head = header("sdpa_vector", constants=SDPA_CONSTANTS | {"blocks": blocks})
    first = f"""
        sdpa_vector_2pass_1<T, {D}>(
            q, k, v, partials, sums, maxima, {keys}, {keys * D}, {D}, {keys * D}, {D}, {D**-0.5}f,
            nullptr, nullptr, 0, 0, 0, nullptr, threads_per_threadgroup, thread_position_in_threadgroup,
            threadgroup_position_in_grid, threadgroups_per_grid, thread_index_in_simdgroup);"""
    second = f"""
        sdpa_vector_2pass_2<T, {D}>(
            partials, sums, maxima, y, {blocks},
            threadgroup_position_in_grid, threadgroups_per_grid, simdgroup_index_in_threadgroup, thread_index_in_simdgroup);"""
    of_blocks = {
        "partials": ((HEADS, blocks, D), T),
        "sums": ((HEADS, blocks), mx.float32),
        "maxima": ((HEADS, blocks), mx.float32),
    }
    group = (32, HEADS // KV_HEADS, 1)
    want = attention(**arrays)
    for results in launch(head, first, arrays, of_blocks, (KV_HEADS, 1, blocks), group, T=T):
        inputs = dict(zip(of_blocks, results, strict=True))
        for [y] in launch(head, second, inputs, {"y": (want.shape, T)}, (HEADS, 1, 1), (1024, 1, 1), T=T):
            # The partial results are kept in T, too.
            assert_close(y, want, rounding(T, D + keys) + EPSILON[T])


@each_dtype
def test_steel_attention(T: mx.Dtype) -> None:
    """Flash attention by 8 x 8 matrices: a last block that is not full in queries and keys, causal, grouped heads."""
    queries, keys, bq, bk = 40, 70, 32, 32
    arrays = queries_keys_values(queries, keys, T)
    constants = dict.fromkeys(["align_Q", "align_K", "has_mask", "has_sinks", "save_lse"], False) | {"do_causal": True}
    body = f"""
        mlx::steel::AttnParams params = {{
            1, {HEADS}, {D}, {queries}, {keys}, {HEADS // KV_HEADS}, {D**-0.5}f,
            {math.ceil(queries / bq)}, {math.ceil(keys / bk)}, {queries // bq}, {keys // bk}, {queries % bq}, {keys % bk},
            {keys - queries},
            {{{HEADS * queries * D}, {queries * D}, {D}}}, {{{KV_HEADS * keys * D}, {keys * D}, {D}}},
            {{{KV_HEADS * keys * D}, {keys * D}, {D}}}, {{{HEADS * queries * D}, {queries * D}, {D}}}}};
        attention<T, {bq}, {bk}, {D}, {D}, 4, 1, T>(
            q, k, v, y, &params, nullptr, nullptr, nullptr, nullptr,
            thread_index_in_simdgroup, simdgroup_index_in_threadgroup, threadgroup_position_in_grid,
            thread_position_in_threadgroup);"""
    head = header("steel/attn/kernels/steel_attention", constants=constants)
    want = attention(**arrays, mask="causal")
    for [y] in launch(head, body, arrays, {"y": (want.shape, T)}, (math.ceil(queries / bq), HEADS, 1), (32, 4, 1), T=T):
        # The scaled queries are kept in T: an error of EPSILON / 2 in each score.
        assert_close(y, want, rounding(T, D + keys) + EPSILON[T])


# What g++ does not take: MLX specializes member functions inside of a class.


@pytest.fixture
def clang(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (os.environ.get("CXX"), "clang++", *(f"clang++-{version}" for version in range(15, 30))):
        if name and shutil.which(name):
            monkeypatch.setenv("CXX", name)
            with contextlib.suppress(NoCompiler):
                if find_compiler("mlx_kernel").kind == "clang":
                    return
    pytest.skip("MLX's scan.h needs clang++ 15 or later")


def test_scan(clang: None) -> None:
    rows, size = 2, 5000  # as in softmax_looped: MLX reads the sums of 32 SIMD groups, whether they are there or not
    x = random(rows, size)
    body = f"""
        contiguous_scan<float, float, CumSum<float>, 4, true, false>(
            x, y, {size}, threadgroup_position_in_grid, threadgroups_per_grid, thread_position_in_threadgroup,
            threads_per_threadgroup, thread_index_in_simdgroup, simdgroup_index_in_threadgroup);"""
    for [y] in launch(header("scan"), body, {"x": x}, {"y": (x.shape, mx.float32)}, (1, rows, 1), (1024, 1, 1)):
        assert_close(y, mx.cumsum(x, axis=-1), rounding(mx.float32, size))
