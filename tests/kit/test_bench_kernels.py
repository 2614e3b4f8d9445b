"""`pdm run bench-kernels`: it counts what the CPU runner counts, times the two sides in turn, and never mixes up the two."""

import json
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import pytest
from click.testing import CliRunner, Result

import tiny_llm_ref
from metal_anywhere import OutOfBounds, cpu_runner, metal_kernel
from metal_anywhere.compiler import find_compiler
from tiny_llm_kit.bench import kernel_report, kernels
from tiny_llm_kit.bench.gpu_time import Launches
from tiny_llm_kit.bench.kernel_cases import KERNELS, Comparison, comparisons
from tiny_llm_kit.bench.kernel_counts import count
from tiny_llm_kit.bench.kernels import Figures, Peaks, measure
from tiny_llm_kit.cli import bench_kernels

FEW = ("--kernel", "scaled_add", "--kernel", "fused_rms_norm")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """On a machine without a GPU."""
    monkeypatch.setattr(bench_kernels, "backend", lambda: "cpu")
    return bench_kernels


@pytest.fixture
def compiler() -> None:
    """Skips a test where there is none: the program itself would end with exit code 2."""
    find_compiler("bench-kernels")


def run(script: ModuleType, *arguments: str) -> Result:
    return CliRunner().invoke(script.main, arguments)


def written(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("*.json")
    document: dict[str, Any] = json.loads(path.read_text())
    return document


@pytest.mark.usefixtures("compiler")
def test_without_a_gpu_there_are_counts_and_no_speeds(script: ModuleType, tmp_path: Path) -> None:
    result = run(script, *FEW, "--dtype", "float32", "--out", str(tmp_path / "out"))
    assert result.exit_code == 0, result.output
    assert "counts and no speeds" in result.output
    assert not [unit for unit in ("µs", "GB/s", "FLOP") if unit in result.output], "a time of the CPU runner tells nothing"

    document = written(tmp_path / "out")
    assert (document["figures"], document["dtype"], document["solution"]) == ("counts", "float32", "ref")
    assert document["machine"]["cpu"]
    assert not document["not_measured"]
    rows = {row["name"]: row for row in document["kernels"]}
    assert list(rows) == ["scaled_add", "fused_rms_norm"]
    for name, row in rows.items():
        with cpu_runner() as launches:
            comparisons(tiny_llm_ref, mx.float32, small=True)[name]().ours(0)
        (launch,) = launches
        traffic = launch.buffers.values()
        assert row["threads"] == launch.threads
        assert (row["barriers"], row["simd_operations"]) == (launch.barriers, launch.simd_operations)
        assert row["loads"] == sum(t.loads for t in traffic)
        assert row["bytes_read"] == sum(t.bytes_read for t in traffic)
        assert row["bytes_written"] == sum(t.bytes_written for t in traffic) == row["least_written"]
        assert row["difference"] < 1e-5
    (markdown,) = (tmp_path / "out").glob("*.md")
    assert all(f"| {name} |" in markdown.read_text() for name in rows)
    (chart,) = (tmp_path / "out").glob("*.png")
    assert chart.read_bytes().startswith(b"\x89PNG")


def test_counts_of_a_kernel_that_can_be_worked_out_by_hand() -> None:
    """64 threads, two numbers of four bytes each and one that all of them read; the compiler may not merge these."""
    kernel = metal_kernel(
        "weighted", ["x", "y"], ["out"], "uint i = thread_position_in_grid.x; out[i] = x[i] + x[63 - i] * y[0];"
    )
    x, y = mx.arange(64, dtype=mx.float32), mx.full((8,), 2.0)

    def ours(_: int) -> mx.array:
        out: mx.array = kernel(
            inputs=[x, y], grid=(64, 1, 1), threadgroup=(32, 1, 1), output_shapes=[(64,)], output_dtypes=[mx.float32]
        )[0]
        return out

    row = count(Comparison("weighted", "64", 1, 4 * (64 + 8 + 64), ours, lambda _: x + x[::-1] * 2))
    assert (row.threads, row.loads, row.bytes_per_load) == (64, 3 * 64, 4)
    assert (row.bytes_read, row.bytes_written) == (3 * 256, 256)
    assert (row.least_read, row.least_written, row.least_bytes) == (256 + 32, 256, 544)
    assert row.ratio == pytest.approx(1024 / 544)
    assert row.read_ratio == pytest.approx(768 / 288)
    assert row.difference == 0


def test_an_answer_without_a_kernel_has_no_counts() -> None:
    with pytest.raises(ValueError, match="double gave a result without a kernel"):
        count(Comparison("double", "", 1, 8, lambda _: mx.ones(1) * 2, lambda _: mx.ones(1) * 2))


def test_what_has_to_move_is_each_input_once_and_the_output_once() -> None:
    makers = comparisons(tiny_llm_ref, mx.float16, small=True)
    assert tuple(makers) == KERNELS
    matvec = makers["matvec_vector"]()
    N, K = 256, 1024
    packed, groups = N * K // 2, 2 * 2 * N * K // 64
    assert matvec.bytes == packed + groups + 2 * K + 2 * N
    assert matvec.operations == 2 * N * K
    H, KV, L, D = 4, 2, 128, 64
    attention = makers["flash_attention"]()
    assert attention.bytes == 2 * L * D * (H + KV + KV + H)
    assert attention.operations == 2 * 2 * D * H * sum(range(1, L + 1)), "query i sees i + 1 keys"
    paged = makers["paged_attention"]()
    B, H, KV, S, D, block = 2, 6, 2, 512, 64, 16
    assert paged.bytes == 2 * B * D * (H + 2 * KV * S + H) + 4 * (B * S // block + B), "each block is some row's"
    chunk = makers["paged_attention_prefill"]()
    H, L, S = 4, 32, 128
    assert chunk.operations == 2 * 2 * D * H * sum(range(S - L + 1, S + 1)), "query i sees S − L + i + 1 keys"


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("name", ["paged_attention", "paged_attention_1_row"])
def test_paged_attention_moves_little_more_than_it_has_to(name: str) -> None:
    row = count(comparisons(tiny_llm_ref, mx.float16, small=True)[name]())
    assert row.ratio <= 1.3
    assert row.difference < 1e-3


@pytest.mark.usefixtures("compiler")
def test_a_kernel_that_computes_something_else_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    right = tiny_llm_ref.fused_rms_norm
    monkeypatch.setattr(tiny_llm_ref, "fused_rms_norm", lambda *arguments: right(*arguments) * 1.01)
    result = run(script, *FEW, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "Not what MLX computes: fused_rms_norm." in result.output


@pytest.mark.usefixtures("compiler")
def test_a_broken_kernel_does_not_hide_the_others(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def broken(*_: object) -> None:
        raise OutOfBounds("reads x[9]", kernel="scaled_add")

    monkeypatch.setattr(tiny_llm_ref, "scaled_add", broken)
    result = run(script, *FEW, "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "reads x[9]" in result.output
    document = written(tmp_path)
    assert [row["name"] for row in document["kernels"]] == ["fused_rms_norm"]
    assert list(document["not_measured"]) == ["scaled_add"]


def test_an_unfinished_task_is_named(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def stub(*_: object) -> None:
        raise NotImplementedError("Week 9 Day 9, task 9: a stub")

    monkeypatch.setattr(tiny_llm_ref, "scaled_add", stub)
    result = run(script, *FEW, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "Week 9 Day 9, task 9" in result.output
    assert not (tmp_path / "out").exists(), "nothing half-done"


def test_without_a_compiler_it_says_what_to_install(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def not_compiled_yet(a: float, x: mx.array, y: mx.array) -> list[mx.array]:
        kernel = metal_kernel("new", ["x"], ["out"], "out[thread_position_in_grid.x] = x[0];")
        return kernel(inputs=[x], grid=(x.size, 1, 1), threadgroup=(1, 1, 1), output_shapes=[x.shape], output_dtypes=[x.dtype])

    monkeypatch.setattr(tiny_llm_ref, "scaled_add", not_compiled_yet)
    monkeypatch.setenv("CXX", "/nonexistent")
    result = run(script, *FEW, "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert "no C++ compiler: $CXX is '/nonexistent'" in result.output
    assert not (tmp_path / "out").exists(), "nothing half-done"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--kernel", "matmul"], "'matmul' is not one of 'scaled_add'"),
        (["--dtype", "int8"], "'int8' is not one of"),
        (["--solution", "nobody"], "nobody"),
        (["--out", "pyproject.toml"], "is a file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_input_is_one_message_and_exit_code_2(script: ModuleType, arguments: list[str], message: str) -> None:
    result = run(script, *arguments)
    assert result.exit_code == 2, result.output
    assert message in result.output
    assert "Traceback" not in result.output


def test_the_two_sides_take_turns_and_times_are_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    x = [mx.array([1.0, 2.0]), mx.array([3.0, 4.0]), mx.array([5.0, 6.0])]
    order: list[str] = []
    seconds = {"ours": [3.0, 1.0, 100.0], "mlx": [2.0, 4.0, 8.0]}

    def side(name: str, i: int) -> mx.array:
        order.append(f"{name} {i}")
        return x[i] * 2

    def clock(launches: Launches, count: int, repeats: int) -> float:
        mx.eval(launches(count))
        assert repeats == 1
        return seconds[order[-1].split()[0]].pop(0)

    monkeypatch.setattr(kernels, "seconds_per_launch", clock)
    double = Comparison("double", "2", 3, 16, lambda i: side("ours", i), lambda i: side("mlx", i), operations=10)
    row = measure(double, copy_speed=8.0, repeats=3)
    turn = [f"{name} {i}" for name in ("ours", "mlx") for i in range(3)]
    assert order[:18] == turn * 3, "ours, MLX's, ours, MLX's …, and every copy of the inputs in each turn"
    assert (row.ours, row.mlx, row.ratio) == (3.0, 4.0, 0.75)
    assert row.bandwidth == pytest.approx(16 / 3 / 8)
    assert (row.difference, row.operations) == (0, 10)


def test_a_kernel_is_held_against_what_bounds_it() -> None:
    peaks = Peaks(bytes=100.0, operations=1000.0)
    reads = Figures("reads", "", ours=2.0, mlx=4.0, bytes=100, bandwidth=0.5, difference=0.0, operations=100)
    computes = Figures("computes", "", ours=2.0, mlx=1.0, bytes=10, bandwidth=0.05, difference=0.0, operations=1000)
    shares = [(r["share_of_peak"], r["share_of_peak_mlx"]) for r in kernel_report.of_times([reads, computes], peaks, 3).records]
    assert shares == [(0.5, 0.25), (0.5, 1.0)]


def test_on_a_gpu_there_are_times_beside_what_the_machine_can_do(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def measured(comparison: Comparison, copy_speed: float, repeats: int) -> Figures:
        assert copy_speed == 1e11
        return Figures(comparison.name, comparison.inputs, 2e-6, 1e-6, 10**5, 0.5, 1e-4, comparison.operations)

    monkeypatch.setenv("MLX_MAX_MB_PER_BUFFER", "40")
    monkeypatch.setenv("MLX_MAX_OPS_PER_BUFFER", "40")
    monkeypatch.setattr(script, "backend", lambda: "cuda")
    monkeypatch.setattr(script, "describe_machine", lambda: {"gpu": "a GPU"})
    monkeypatch.setattr(script, "copy_bandwidth", lambda repeats: 1e11)
    monkeypatch.setattr(script, "product_speed", lambda dtype, repeats: 1e13)
    monkeypatch.setattr(script, "comparisons", lambda answer, dtype, small: comparisons(answer, dtype, small=True))
    monkeypatch.setattr(script, "measure", measured)
    result = run(script, "--kernel", "matvec_vector", "--kernel", "flash_attention", "--out", str(tmp_path))
    assert result.exit_code == 0, result.output
    assert int(os.environ["MLX_MAX_MB_PER_BUFFER"]) > 2**11, "a queue reads more than a GB"
    assert int(os.environ["MLX_MAX_OPS_PER_BUFFER"]) > 1000
    assert "counts" not in result.output
    assert "a copy moves 100 GB/s" in result.output
    assert "50 GB/s" in result.output, "a product with one row waits for memory"
    document = written(tmp_path)
    assert (document["figures"], document["peaks"]["copy_bytes_per_second"]) == ("times", 1e11)
    assert {row["name"]: row["share_of_peak"] for row in document["kernels"]}["matvec_vector"] == pytest.approx(0.5)
    assert next(tmp_path.glob("*.png")).read_bytes().startswith(b"\x89PNG")
