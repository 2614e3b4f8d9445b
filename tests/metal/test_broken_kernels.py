"""Kernels that are wrong, each in its own way: the CPU runner must say what is wrong, where, and in which thread."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from metal.broken import COUNT, caught, run
from metal_anywhere import (
    BarrierDivergence,
    CompileError,
    DataRace,
    KernelFault,
    MetalError,
    MetalSource,
    NeverEnds,
    NeverWritten,
    NoCompiler,
    OutOfBounds,
    ThreadgroupMemoryExceeded,
    UninitializedRead,
    cpu_runner,
    metal_kernel,
)


def test_a_right_kernel_runs() -> None:
    y = run("uint i = thread_position_in_grid.x;\ny[i] = 2 * x[i];")
    assert y.tolist() == [2.0 * i for i in range(COUNT)]


# Memory


def test_a_read_behind_the_end_of_a_buffer() -> None:
    error = caught(OutOfBounds, "uint i = thread_position_in_grid.x;\nfloat z = 1;\ny[i] = z + x[i + 1];")
    assert error.location == "broken.metal:3"
    assert (error.threadgroup, error.thread) == ((1, 0, 0), (31, 0, 0))
    assert "reads x[64]" in str(error)
    assert "64 elements" in str(error)


def test_a_read_before_the_start_of_a_buffer() -> None:
    error = caught(OutOfBounds, "uint i = thread_position_in_grid.x;\ny[i] = x[int(i) - 3];")
    assert "reads x[-3]" in str(error)
    assert error.thread == (0, 0, 0)


def test_a_write_behind_the_end_of_a_buffer() -> None:
    error = caught(OutOfBounds, "uint i = thread_position_in_grid.x;\ny[i] = x[i];", outputs=62)
    assert "writes y[62]" in str(error)
    assert error.thread == (30, 0, 0)


def test_a_vector_that_reaches_over_the_edge() -> None:
    body = "uint i = thread_position_in_grid.x;\nfloat4 v = *(const device float4*)(x + i);\ny[i] = v.x + v.y + v.z + v.w;"
    error = caught(OutOfBounds, body)
    assert "x[61] (16 bytes from there)" in str(error)
    assert error.location == "broken.metal:2"


def test_bytes_seen_as_other_numbers_are_counted_as_bytes() -> None:
    source = MetalSource("uint i = thread_position_in_grid.x;\ny[i] = ((const device float*)x)[i];", Path("broken.metal"))
    kernel = metal_kernel("broken", ["x"], ["y"], source)
    call: dict[str, Any] = {"grid": (64, 1, 1), "threadgroup": (64, 1, 1), "output_shapes": [(64,)]}
    with cpu_runner(), pytest.raises(OutOfBounds, match="reads 4 bytes from byte 192 of x, which has 192 bytes"):
        kernel(inputs=[mx.zeros(192, mx.uint8)], output_dtypes=[mx.float32], **call)


def test_an_index_far_outside_every_buffer() -> None:
    error = caught(OutOfBounds, "uint i = thread_position_in_grid.x;\ny[i] = x[i + 100000000];")
    assert error.location == "broken.metal:2"


def test_an_index_outside_a_threadgroup_array() -> None:
    body = """uint lane = thread_index_in_simdgroup;
threadgroup float part[32];
part[lane] = x[lane];
threadgroup_barrier(mem_flags::mem_threadgroup);
y[thread_position_in_grid.x] = part[lane + 1];"""
    error = caught(OutOfBounds, body)
    assert error.location == "broken.metal:5"
    assert "index 32" in str(error)
    assert error.thread == (31, 0, 0)


def test_an_index_outside_a_threads_own_array() -> None:
    body = "uint i = thread_position_in_grid.x;\nfloat own[4] = {0, 1, 2, 3};\ny[i] = own[int(x[i]) - 1];"
    error = caught(OutOfBounds, body)
    assert error.location == "broken.metal:3"
    assert "index -1" in str(error)


def test_a_write_through_a_cast_to_an_input() -> None:
    error = caught(OutOfBounds, "uint i = thread_position_in_grid.x;\n((device float*)x)[i] = 0;\ny[i] = 0;")
    assert "x[0], which is an input" in str(error)


def test_outputs_that_nobody_writes() -> None:
    error = caught(NeverWritten, "uint i = thread_position_in_grid.x;\nif (i % 2 == 0) y[i] = x[i];")
    assert "32 of the 64 elements of y" in str(error)
    assert "y[1]" in str(error)


def test_a_grid_that_is_too_small() -> None:
    error = caught(NeverWritten, "uint i = thread_position_in_grid.x;\ny[i] = x[i];", grid=(40, 1, 1))
    assert "24 of the 64" in str(error)
    assert "y[40]" in str(error)
    assert "does the grid of 40 threads cover it, and does each thread write all that is its own?" in str(error)


def test_an_initial_value_counts_as_written() -> None:
    y = run("uint i = thread_position_in_grid.x;\nif (i == 3) y[i] += 1;", init_value=5.0)
    assert y.tolist() == [6.0 if i == 3 else 5.0 for i in range(COUNT)]


def test_an_output_that_is_read_before_it_is_written() -> None:
    error = caught(UninitializedRead, "uint i = thread_position_in_grid.x;\ny[i] += x[i];")
    assert error.location == "broken.metal:2"


def test_threadgroup_memory_that_nobody_has_written() -> None:
    body = """uint lane = thread_index_in_simdgroup;
threadgroup float part[32];
if (lane < 16) part[lane] = x[lane];
threadgroup_barrier(mem_flags::mem_threadgroup);
y[thread_position_in_grid.x] = part[31 - lane];"""
    error = caught(UninitializedRead, body)
    assert "element 31 of the threadgroup variable part" in str(error)
    assert error.location == "broken.metal:5"


def test_threadgroup_memory_of_an_earlier_threadgroup() -> None:
    body = """threadgroup float part[1];
if (thread_position_in_grid.x == 0) part[0] = 1;
threadgroup_barrier(mem_flags::mem_threadgroup);
y[thread_position_in_grid.x] = part[0];"""
    error = caught(UninitializedRead, body)
    assert "part" in str(error)


def test_more_threadgroup_memory_than_there_is() -> None:
    body = "threadgroup float a[8192];\nthreadgroup float b[8];\na[0] = b[0] = 0;\ny[0] = 0;"
    error = caught(ThreadgroupMemoryExceeded, body)
    assert "32800 bytes" in str(error)
    assert error.location == "broken.metal:2"


# Matrices of a SIMD group

MATRICES = "y[thread_position_in_grid.x] = 0;\nsimdgroup_float8x8 a, b, c;\nthreadgroup float part[64];\n"


@pytest.mark.parametrize("T", ["float", "half", "bfloat"])
@pytest.mark.parametrize(
    ("line", "which"),
    [
        ("simdgroup_store(m, part, 8);", "the matrix that is stored"),
        ("simdgroup_multiply(filled, m, filled);", "the matrix a of a product a b"),
        ("simdgroup_multiply(filled, filled, m);", "the matrix b of a product a b"),
        ("simdgroup_multiply_accumulate(m, filled, filled, m);", "the matrix c of a b + c"),
    ],
)
def test_a_matrix_that_nobody_has_filled(line: str, which: str, T: str) -> None:
    matrices = f"simdgroup_matrix<{T}, 8, 8> m, filled = make_filled_simdgroup_matrix<{T}, 8, 8>({T}(1));"
    error = caught(UninitializedRead, f"y[thread_position_in_grid.x] = 0;\nthreadgroup {T} part[64]; {matrices}\n{line}")
    assert error.location == "broken.metal:3"
    assert f"{which} was never filled" in str(error)


def test_a_matrix_whose_second_elements_nobody_has_set() -> None:
    assert "never filled" in str(caught(UninitializedRead, f"{MATRICES}a.thread_elements()[0] = 1;\nsimdgroup_store(a, part);"))


def test_a_matrix_of_nan_is_filled() -> None:
    product = "a = make_filled_simdgroup_matrix<float, 8, 8>(NAN);\nsimdgroup_multiply(b, a, a);\nsimdgroup_store(b, y, 8);"
    body = f"{MATRICES}{product}"
    assert all(value != value for value in run(body, threadgroup=(64, 1, 1), grid=(32, 1, 1)).tolist())


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (UninitializedRead, "simdgroup_load(a, part, 8); simdgroup_store(a, y, 8);"),
        (OutOfBounds, "simdgroup_load(a, x + 32, 8); simdgroup_store(a, y, 8);"),
        (OutOfBounds, "simdgroup_store(make_filled_simdgroup_matrix<float, 8, 8>(1), y + 8, 8);"),
    ],
)
def test_a_matrix_loaded_or_stored_outside_has_a_line(kind: type[MetalError], line: str) -> None:
    assert caught(kind, f"{MATRICES}\n{line}").location == "broken.metal:5"


def test_a_data_race_of_matrices_names_both_lines() -> None:
    body = f"""{MATRICES}simdgroup_load(a, x, 8);
simdgroup_store(a, part, 8);
threadgroup_barrier(mem_flags::mem_none);
simdgroup_load(b, part, 8);
simdgroup_store(b, y, 8);"""
    error = caught(DataRace, body, threadgroup=(64, 1, 1))
    assert error.location in ("broken.metal:5", "broken.metal:7")
    assert "uses in broken.metal:5" in str(error)


# Threads together


REVERSE = """uint lane = thread_index_in_threadgroup;
threadgroup float part[64];
part[lane] = x[lane];
{barrier}
y[lane] = part[63 - lane];"""
ONE_GROUP: dict[str, Any] = {"threadgroup": (64, 1, 1)}
BARRIER = "threadgroup_barrier(mem_flags::mem_threadgroup);"


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_a_barrier_in_its_place(order: str) -> None:
    y = run(REVERSE.format(barrier=BARRIER), order, **ONE_GROUP)
    assert y.tolist() == [63.0 - i for i in range(COUNT)]


@pytest.mark.parametrize("order", ["ascending", "descending", "shuffled"])
def test_a_missing_barrier(order: str) -> None:
    with pytest.raises((DataRace, UninitializedRead)) as error:
        run(REVERSE.format(barrier=""), order, **ONE_GROUP)
    assert error.value.location in ("broken.metal:3", "broken.metal:5")


def test_a_missing_barrier_before_memory_is_used_again() -> None:
    body = """uint lane = thread_index_in_threadgroup;
threadgroup float part[64];
float sum = 0;
for (uint round = 0; round < 2; round++) {
  part[lane] = x[lane] + round;
  threadgroup_barrier(mem_flags::mem_threadgroup);
  sum += part[63 - lane];
}
y[lane] = sum;"""
    error = caught(DataRace, body, **ONE_GROUP)
    assert "in between" in str(error)
    assert "broken.metal:5" in str(error)
    assert "broken.metal:7" in str(error)
    assert error.location in ("broken.metal:5", "broken.metal:7")


def test_within_a_simd_group_a_simd_operation_is_order_enough() -> None:
    body = """uint lane = thread_index_in_simdgroup;
threadgroup float part[32];
part[lane] = x[lane];
simdgroup_barrier(mem_flags::mem_threadgroup);
y[thread_position_in_grid.x] = part[31 - lane];"""
    assert run(body).tolist() == 2 * [31.0 - i for i in range(32)]


def test_a_barrier_that_half_of_the_threads_reach() -> None:
    body = f"uint i = thread_position_in_grid.x;\ny[i] = x[i];\nif (i < 48) return;\n{BARRIER}"
    error = caught(BarrierDivergence, body)
    assert error.location == "broken.metal:4"
    assert error.threadgroup == (1, 0, 0)
    assert "16 threads" in str(error)


def test_threads_that_wait_at_different_barriers() -> None:
    body = f"uint i = thread_position_in_grid.x;\ny[i] = x[i];\nif (i < 8) {{\n{BARRIER}\n}} else {{\n{BARRIER}\n}}"
    error = caught(BarrierDivergence, body)
    assert error.location == "broken.metal:4"
    assert "line 6" in str(error)


def test_two_simd_sums_in_one_line_are_two_places() -> None:
    body = """float v = x[thread_position_in_grid.x];
if (thread_index_in_simdgroup < 16) v = simd_sum(v); else v = simd_sum(v);
y[thread_position_in_grid.x] = v;"""
    error = caught(BarrierDivergence, body)
    assert error.location == "broken.metal:2"
    assert "16 of the 32 lanes" in str(error)


def test_lanes_that_end_before_a_simd_sum() -> None:
    body = """uint i = thread_position_in_grid.x;
y[i] = 0;
if (thread_index_in_simdgroup >= 20) return;
y[i] = simd_sum(x[i]);"""
    error = caught(BarrierDivergence, body)
    assert error.location == "broken.metal:4"
    assert "20 of the 32 lanes" in str(error)


def test_a_barrier_for_other_memory() -> None:
    error = caught(DataRace, REVERSE.format(barrier="threadgroup_barrier(mem_flags::mem_device);"), **ONE_GROUP)
    assert "mem_flags::mem_threadgroup" in str(error)


# Ends


@pytest.mark.parametrize(
    "loop",
    ["while (true) sum += x[i];", "while (sum >= 0) sum += 1;", f"while (true) {{ {BARRIER} }}"],
    ids=["reading", "computing", "waiting"],
)
def test_a_kernel_that_never_ends(loop: str) -> None:
    error = caught(NeverEnds, f"uint i = thread_position_in_grid.x;\nfloat sum = 0;\n{loop}\ny[i] = sum;")
    assert error.location == "broken.metal:3"


def test_a_division_by_zero() -> None:
    error = caught(KernelFault, "uint i = thread_position_in_grid.x;\ny[i] = 7 / int(x[i]);")
    assert error.location == "broken.metal:2"
    assert error.thread == (0, 0, 0)


# The compiler


def test_a_compile_error_has_the_line_of_the_file() -> None:
    error = caught(CompileError, "uint i = thread_position_in_grid.x;\n\n\ny[i] = x[i] + unknown;")
    assert error.location == "broken.metal:4"
    assert "unknown" in str(error)


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        ("bfloat b = 1; b = x[0];", "T("),
        ("half h = 1; y[0] = max(x[0], h);", "one type"),
        ("threadgroup_barrier();", "mem_flags::mem_threadgroup"),
        ("y[0] = simd_add(x[0]);", "neither this kernel nor the CPU runner knows `simd_add`"),
        ("y[0] = simd_sum(simd_add(x[0]));", "knows `simd_add`"),
        ("y[0] = unknown;", "knows `unknown`"),
    ],
)
def test_common_compile_errors_come_with_a_hint(line: str, hint: str) -> None:
    error = caught(CompileError, f"y[thread_position_in_grid.x] = 0;\n{line}")
    assert hint in str(error).rpartition("Hint:")[2]
    assert ".h:" not in str(error)


def test_a_missing_semicolon() -> None:
    error = caught(CompileError, "uint i = thread_position_in_grid.x;\ny[i] = x[i]\n")
    assert error.location is not None
    assert error.location.startswith("broken.metal:")


def test_a_compile_error_in_the_header_has_the_line_of_the_header() -> None:
    header = MetalSource("inline float twice(float a) {\n  return 2 * b;\n}\n", Path("helpers.metal"))
    error = caught(CompileError, "y[thread_position_in_grid.x] = twice(1);", header=header)
    assert error.location == "helpers.metal:2"


@pytest.mark.parametrize(
    "line",
    [
        "const float4* v = reinterpret_cast<const float4*>(x); y[0] = v[0].x;",
        "device float* z = (float*)y; z[0] = 0;",
        "float const& z = x[0]; y[0] = z;",
        "struct Pair { float a, b; }; thread Pair p = {x[0], x[1]}; Pair* q = &p; y[0] = q->a;",
        "metal::uint2 u = 0; metal::uint2& v = u; y[0] = v.x;",
    ],
)
def test_a_pointer_without_an_address_space(line: str) -> None:
    error = caught(CompileError, f"// float* is fine in a comment\ny[thread_position_in_grid.x] = 0;\n{line}")
    assert error.location == "broken.metal:3"
    assert "device, constant, threadgroup, thread" in str(error)


def test_a_pointer_to_a_type_of_the_template_or_the_header_needs_an_address_space() -> None:
    error = caught(CompileError, "const T* z = x;\ny[thread_position_in_grid.x] = z[0];", template=[("T", mx.float32)])
    assert error.location == "broken.metal:1"
    header = MetalSource("template <typename U>\nU first(const device U* a, U& b) { return a[0] + b; }", Path("helpers.metal"))
    error = caught(CompileError, "y[0] = x[0];", header=header)
    assert error.location == "helpers.metal:2"
    assert "`U&`" in str(error)


def test_pointers_that_metal_takes() -> None:
    body = """uint i = thread_position_in_grid.x;
const device float2* pairs = (const device float2*)x;
float device const* numbers = x; device float *z = y, *w = y;
float local = 2; thread float& two = local; auto& also = local;
const uint four = sizeof(float) * 1 & 7;
threadgroup float tile[32]; threadgroup float* t = tile;
t[i % 32] = numbers[i] + pairs[i / 2][i % 2]; z[i] = 0;
w[i] = t[i % 32] * four + two * float(also);"""
    assert run(body).tolist() == [2 * i * 4 + 4 for i in range(COUNT)]


TOO_LARGE = "float big[100000]; for (int i = 0; i < 100000; i++) big[i] = x[i % 64]; y[0] = big[int(x[1])];"


@pytest.mark.parametrize("line", ["x[0] = 1;", "double d = 1;", 'printf("%d", 1);', TOO_LARGE])
def test_what_metal_would_refuse(line: str) -> None:
    error = caught(CompileError, f"y[thread_position_in_grid.x] = 0;\n{line}")
    # A frame that is too large is reported at one end of the function or the other.
    assert error.location in ("broken.metal:2", "broken.metal:3", "<generated>:1")


def test_a_stub_names_its_task() -> None:
    with pytest.raises(NotImplementedError, match=r"^Week 2 Day 3, task 1: hello"):
        run('#error "Week 2 Day 3, task 1: hello, grid. Read book/src/week2-03-metal-matvec.md"\n')


# What is wrong with the call, or the machine


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"grid": (0, 1, 1)}, "grid"),
        ({"grid": (2.5, 1, 1)}, "whole numbers"),
        ({"threadgroup": (64, 32, 1)}, "2048 threads"),
        ({"output_shapes": []}, "output_shapes"),
        ({"output_dtypes": [mx.float32] * 2}, "output_dtypes"),
        ({"template": [("N", 1.5)]}, "N"),
    ],
    ids=str,
)
def test_a_wrong_call(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        run("y[thread_position_in_grid.x] = 0;", **wrong)


def test_an_unknown_order() -> None:
    with pytest.raises(ValueError, match="backwards"):
        run("y[thread_position_in_grid.x] = 0;", order="backwards")


def test_a_machine_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NoCompiler) as error:
        run("y[thread_position_in_grid.x] = 1;")
    assert "\n" not in str(error.value)
    assert "install" in str(error.value)


def test_a_compiler_that_does_not_exist(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(NoCompiler, match="no-such-compiler"):
        run("y[thread_position_in_grid.x] = 2;")
