"""The CPU runner with kernels that are right: launches, strides, counts, the order of threads, and what is kept on disk."""

import os
import time
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from metal_anywhere import CompileError, Launch, cache, cpu_runner, metal_kernel
from metal_anywhere.rewrite import replace_threadgroup_variables, to_cpp

COPY = "uint i = thread_position_in_grid.x;\ny[i] = x[i];"


def launch(body: str, x: mx.array, count: int, order: Any = "ascending", **options: Any) -> tuple[mx.array, Launch]:
    """Runs `body` on `count` threads with input x and output y of `count` elements of x's dtype."""
    definition = {key: options.pop(key) for key in ("header", "ensure_row_contiguous", "atomic_outputs") if key in options}
    kernel = metal_kernel("sample", ["x"], ["y"], body, **definition)
    call = {"grid": (count, 1, 1), "threadgroup": (32, 1, 1), "output_shapes": [(count,)], "output_dtypes": [x.dtype]} | options
    with cpu_runner(order, seed=3) as launches:
        (y,) = kernel(inputs=[x], **call)
    return y, launches[-1]


@pytest.mark.parametrize(
    "dtype", [mx.float32, mx.float16, mx.bfloat16, mx.int8, mx.int64, mx.uint16, mx.uint64, mx.bool_, mx.complex64], ids=str
)
def test_every_dtype_passes_through(dtype: mx.Dtype) -> None:
    x = (mx.arange(40) % 3).astype(dtype)
    y, _ = launch(COPY, x, 40)
    assert y.dtype == dtype
    assert mx.array_equal(x, y)


# Shapes and strides


STRIDED = """uint i = thread_position_in_grid.x;
uint columns = x_shape[1];
y[i] = x[i / columns * x_strides[0] + i % columns * x_strides[1]] + 1000 * x_ndim;"""


@pytest.mark.parametrize(
    "view",
    [
        lambda a: a,
        lambda a: a[1:, 2:5],
        lambda a: a.T,
        lambda a: a[::2, ::3],
        lambda a: a[::-1],
        lambda a: mx.broadcast_to(a[:1], (4, 8)),
    ],
    ids=["whole", "slice", "transposed", "every other", "backwards", "broadcast"],
)
@pytest.mark.parametrize("contiguous", [True, False], ids=["copied", "as it is"])
def test_strides_are_the_real_ones(view: Any, contiguous: bool) -> None:
    x = view(mx.arange(64, dtype=mx.float32).reshape(8, 8))
    y, run = launch(STRIDED, x, x.size, ensure_row_contiguous=contiguous)
    assert y.tolist() == (x + 2000).flatten().tolist()
    if contiguous:
        assert run.buffers["x"].bytes == x.nbytes


def test_a_view_is_passed_without_a_copy_of_what_lies_around_it() -> None:
    slab = mx.arange(4096, dtype=mx.float32).reshape(64, 64)
    _, run = launch(STRIDED, slab[2:4, 8:16], 16, ensure_row_contiguous=False)
    assert run.buffers["x"].bytes == (64 + 8) * 4


def test_a_number_is_passed_as_a_number() -> None:
    kernel = metal_kernel("scale", ["x", "a"], ["y"], "uint i = thread_position_in_grid.x;\ny[i] = a * x[i];")
    with cpu_runner():
        (y,) = kernel(
            inputs=[mx.arange(40.0), 3.0],
            grid=(40, 1, 1),
            threadgroup=(64, 1, 1),
            output_shapes=[(40,)],
            output_dtypes=[mx.float32],
        )
    assert y.tolist() == [3.0 * i for i in range(40)]


# The grid


def test_the_last_threadgroup_holds_what_is_left() -> None:
    body = "uint i = thread_position_in_grid.x;\ny[i] = threads_per_threadgroup.x + 100 * threadgroup_position_in_grid.x;"
    y, run = launch(body, mx.zeros(70), 70)
    assert y.tolist() == 32 * [32.0] + 32 * [132.0] + 6 * [206.0]
    assert (run.threads, run.threadgroups) == (70, 3)


def test_three_axes() -> None:
    body = """uint3 p = thread_position_in_grid, n = threads_per_grid;
y[(p.z * n.y + p.y) * n.x + p.x] = p.x + 10 * p.y + 100 * p.z + 1000 * simdgroups_per_threadgroup;"""
    y, _ = launch(body, mx.zeros(24), 24, grid=(4, 3, 2), threadgroup=(2, 2, 2))
    assert y.tolist() == [1000 + x + 10 * y + 100 * z for z in range(2) for y in range(3) for x in range(4)]


def test_the_order_of_threads() -> None:
    body = """uint i = thread_position_in_grid.x;
y[i] = atomic_fetch_add_explicit((device atomic<int>*)count, 1, memory_order_relaxed);"""
    seen = {}
    for order in ("ascending", "descending", "shuffled"):
        kernel = metal_kernel("ticket", ["x"], ["count", "y"], body)
        with cpu_runner(order, seed=1):
            _, y = kernel(
                inputs=[mx.zeros(8)],
                grid=(64, 1, 1),
                threadgroup=(64, 1, 1),
                output_shapes=[(1,), (64,)],
                output_dtypes=[mx.int32, mx.int32],
                init_value=0,
            )
        seen[order] = y.tolist()
    assert seen["ascending"] == list(range(64))
    assert seen["descending"] == list(range(63, -1, -1))
    assert sorted(seen["shuffled"]) == list(range(64))
    assert seen["shuffled"] not in (seen["ascending"], seen["descending"])


# Counts


def test_loads_and_stores_are_counted() -> None:
    x = mx.arange(256, dtype=mx.float32)
    _, run = launch(COPY, x, 256)
    assert (run.buffers["x"].loads, run.buffers["x"].bytes_read) == (256, 1024)
    assert (run.buffers["y"].stores, run.buffers["y"].bytes_written) == (256, 1024)
    assert (run.buffers["x"].stores, run.buffers["y"].loads) == (0, 0)


def test_a_vector_load_is_one_load() -> None:
    body = """uint i = thread_position_in_grid.x;
float4 v = *(const device float4*)(x + 4 * i);
*(device float4*)(y + 4 * i) = v;"""
    x = mx.arange(256, dtype=mx.float32)
    y, run = launch(body, x, 64, output_shapes=[(256,)])
    assert mx.array_equal(x, y)
    assert (run.buffers["x"].loads, run.buffers["x"].bytes_read) == (64, 1024)
    assert (run.buffers["y"].stores, run.buffers["y"].bytes_written) == (64, 1024)


def test_neighbouring_loads_are_not_joined() -> None:
    body = "uint i = thread_position_in_grid.x;\nfloat s = 0;\nfor (int j = 0; j < 4; j++) s += x[4 * i + j];\ny[i] = s;"
    _, run = launch(body, mx.arange(256, dtype=mx.float32), 64)
    assert (run.buffers["x"].loads, run.buffers["x"].bytes_read) == (256, 1024)


def test_barriers_and_simd_operations_are_counted() -> None:
    body = """threadgroup float part[2];
float s = simd_sum(x[thread_position_in_grid.x]);
if (thread_index_in_simdgroup == 0) part[simdgroup_index_in_threadgroup] = s;
threadgroup_barrier(mem_flags::mem_threadgroup);
y[thread_position_in_grid.x] = part[0] + part[1];"""
    y, run = launch(body, mx.ones(192), 192, threadgroup=(64, 1, 1))
    assert y.tolist() == 192 * [64.0]
    assert (run.barriers, run.simd_operations, run.threadgroup_bytes) == (3, 6, 8)


# SIMD groups whose lanes part


def test_lanes_that_leave_a_loop_early_wait_behind_it() -> None:
    body = """uint lane = thread_index_in_simdgroup;
float s = 0;
for (uint i = 0; i < lane % 4; i++) s += simd_sum(1.0f);
y[thread_position_in_grid.x] = s + 1000 * simd_sum(1.0f);"""
    kernel = metal_kernel("lanes", ["x"], ["y"], body)
    with cpu_runner(partial_simd_groups=True):
        (y,) = kernel(
            inputs=[mx.zeros(32)],
            grid=(32, 1, 1),
            threadgroup=(32, 1, 1),
            output_shapes=[(32,)],
            output_dtypes=[mx.float32],
        )
    in_loop = [0, 24, 24 + 16, 24 + 16 + 8]
    assert y.tolist() == [32000.0 + in_loop[lane % 4] for lane in range(32)]


@pytest.mark.parametrize("template", [[], [("T", mx.float32)]], ids=["plain", "template"])
def test_a_number_without_a_suffix_is_a_float(template: list[tuple[str, mx.Dtype]]) -> None:
    body = "uint i = thread_position_in_grid.x;\ny[i] = (16777216.0 + x[i]) - 1.6777216e7 + (sizeof(1.0) - sizeof(.5)) + 2.;"
    kernel = metal_kernel("floats", ["x"], ["y"], body)
    with cpu_runner():
        call = {"grid": (64, 1, 1), "threadgroup": (32, 1, 1), "output_shapes": [(64,)], "output_dtypes": [mx.float32]}
        (y,) = kernel(inputs=[mx.ones(64)], template=template, **call)
    assert y.tolist() == [2.0] * 64, "in double it would be 3"


# What is kept


def kept(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*.so")}


def test_a_kernel_is_compiled_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAL_ANYWHERE_CACHE", str(tmp_path))
    x = mx.ones(64)
    launch(COPY, x, 64)
    first = kept(tmp_path)
    launch(COPY, x, 64)
    assert kept(tmp_path) == first
    launch(COPY + "\n", x, 64)
    assert len(kept(tmp_path)) == len(first) + 1
    assert {path.suffix for path in tmp_path.rglob("*") if path.is_file()} == {".so", ".o"}


def test_what_was_used_last_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAL_ANYWHERE_CACHE", str(tmp_path))
    monkeypatch.setattr(cache, "MOST_KEPT", 3)  # the runtime and two kernels
    x = mx.ones(64)
    launch(COPY, x, 64)
    [first] = kept(tmp_path)
    launch(COPY + "\n", x, 64)
    [second] = kept(tmp_path) - {first}
    for days, name in ((2, first), (1, second)):
        ago = time.time() - days * 86400
        os.utime(next(tmp_path.rglob(name)), (ago, ago))
    launch(COPY, x, 64)
    launch(COPY + "\n\n", x, 64)
    assert len(kept(tmp_path)) == 2
    assert first in kept(tmp_path)
    assert second not in kept(tmp_path)


def test_nothing_is_kept_of_a_kernel_that_does_not_compile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METAL_ANYWHERE_CACHE", str(tmp_path))
    for _ in range(2):
        with pytest.raises(CompileError):
            launch("y[0] = nothing;", mx.ones(64), 64)
    assert kept(tmp_path) == set()


# Metal's grammar as C++


@pytest.mark.parametrize(
    ("metal", "names"),
    [
        ("{ threadgroup float x[32]; }", ["x"]),
        ("; threadgroup float x[A * B], y;", ["x", "y"]),
        ("{ threadgroup float4 x[(N + 3) / 4]; }", ["x"]),
        ("{ threadgroup array<float, 4> x[2]; }", ["x"]),
        ("{ threadgroup float* p = x; }", []),
        ("void f(threadgroup float* p, int n);", []),
        ("{ const threadgroup float* p = x; }", []),
        ("threadgroup_barrier(mem_flags::mem_threadgroup);", []),
    ],
)
def test_variables_of_a_threadgroup_are_told_from_pointers(metal: str, names: list[str]) -> None:
    found: list[str] = []

    def declare(_: str, declared: list[str]) -> str:
        found.extend(declared)
        return ""

    replace_threadgroup_variables(metal, declare)
    assert found == names


def test_lines_stay_where_they_are() -> None:
    metal = "void f(device float* x [[buffer(0)]],\n uint i [[thread_position_in_grid]]) {\n threadgroup float\n  y[2];\n}\n"
    cpp = to_cpp(metal)
    assert cpp.count("\n") == metal.count("\n")
    assert "[[" not in cpp
    assert np.char.count(cpp, "threadgroup ") == 0
