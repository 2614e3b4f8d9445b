"""`pdm run gpu-check`, which is `bench-kernels --check`: what it says without a GPU, how it times, what it makes of results."""

import json
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import mlx.core as mx
import pytest
from click.testing import CliRunner, Result

from tiny_llm_kit.bench import gpu_goals, gpu_time, kernels
from tiny_llm_kit.bench.kernel_cases import Comparison
from tiny_llm_kit.bench.kernels import Figures, measure
from tiny_llm_kit.cli import bench_kernels
from tiny_llm_kit.course.suite import SuiteRun, TestResult

PASSED = SuiteRun(0, [TestResult("suite", "test_a", "passed", ""), TestResult("suite", "test_b", "skipped", "why")], "")
FAILED = SuiteRun(1, [TestResult("suite", "test_a", "failed", "look at the barrier")], "1 failed")


@pytest.fixture
def script() -> ModuleType:
    return bench_kernels


def figures(bandwidth: float, ratio: float, paged: float = 0.9) -> dict[str, Figures]:
    return {
        "matvec_vector": Figures("matvec_vector", "4 x 4", 1e-6, 1e-6, 100, bandwidth, 0.0),
        "decode_attention": Figures("decode_attention", "batch 1", ratio * 1e-6, 1e-6, 100, 0.5, 0.0),
        "paged_attention": Figures("paged_attention", "batch 1", paged * 1e-6, 1e-6, 100, 0.5, 0.0),
    }


def check(
    script: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    out: Path,
    *,
    suites: SuiteRun = PASSED,
    measured: dict[str, Figures] | None = None,
    broken: tuple[str, ...] = (),
) -> tuple[Result, dict[str, Any]]:
    """The program as on a machine with a GPU, which measured this."""
    rows = measured or figures(0.7, 1.2)

    def measure(row: Figures, copy_speed: float, repeats: int) -> Figures:
        if row.name in broken:
            raise RuntimeError("Failed to compile kernel")
        return row

    monkeypatch.setattr(script, "backend", lambda: "cuda")
    monkeypatch.setattr(script, "describe_machine", lambda: {"gpu": "a GPU"})
    monkeypatch.setattr(gpu_goals, "run_suites", lambda *arguments, **options: suites)
    monkeypatch.setattr(script, "copy_bandwidth", lambda repeats: 1e9)
    monkeypatch.setattr(script, "product_speed", lambda dtype, repeats: 1e12)
    makers = {name: lambda row=row: row for name, row in rows.items()}
    monkeypatch.setattr(script, "comparisons", lambda answer, dtype, small: makers)
    monkeypatch.setattr(script, "measure", measure)
    result = CliRunner().invoke(script.main, ["--check", "--out", str(out)])
    written = list(out.glob("gpu-check-*.json"))
    return result, json.loads(written[0].read_text()) if written else {}


def test_without_a_gpu_it_says_so_in_one_line(script: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "backend", lambda: "cpu")
    result = CliRunner().invoke(script.main, ["--check"])
    assert result.exit_code == 2
    assert result.output.splitlines() == [
        "Error: MLX computes on the CPU here. Run this on Apple silicon, or on NVIDIA with MLX's CUDA backend."
    ]


def test_all_goals_met(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    result, report = check(script, monkeypatch, tmp_path / "new")
    assert result.exit_code == 0, result.output
    assert [goal["met"] for goal in report["goals"]] == [True] * 7
    assert {row["name"]: row["ratio"] for row in report["kernels"]} == {
        "matvec_vector": pytest.approx(1.0),
        "decode_attention": pytest.approx(1.2),
        "paged_attention": pytest.approx(0.9),
    }
    assert report["machine"] == {"gpu": "a GPU"}


@pytest.mark.parametrize(
    ("case", "unmet"),
    [
        ({"measured": figures(0.59, 1.2)}, "matvec_vector"),
        ({"measured": figures(0.7, 1.6)}, "decode_attention"),
        ({"measured": figures(0.7, 1.2, 1.1)}, "paged_attention"),
        ({"broken": ("decode_attention",)}, "decode_attention"),
    ],
)
def test_a_goal_that_is_missed(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, case: dict[str, Any], unmet: str
) -> None:
    result, report = check(script, monkeypatch, tmp_path, **case)
    assert result.exit_code == 1
    assert [goal["name"].partition(":")[0] for goal in report["goals"] if not goal["met"]] == [unmet]
    assert list(report["not_measured"]) == list(case.get("broken", ()))


@pytest.mark.parametrize(
    "run",
    [
        FAILED,
        SuiteRun(None, [], "stopped"),
        SuiteRun(None, PASSED.results, "stopped after a test"),
        SuiteRun(0, PASSED.results[1:], "all skipped"),
    ],
)
def test_a_suite_that_does_not_pass(script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run: SuiteRun) -> None:
    """A suite that was stopped, or in which nothing ran, has not passed either."""
    result, report = check(script, monkeypatch, tmp_path, suites=run)
    assert result.exit_code == 1
    assert [goal["met"] for goal in report["goals"]] == [False, False, False, False, True, True, True]
    assert run.output in result.output


def test_the_time_of_a_launch_is_what_one_more_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that takes 5 s to begin with, and 2 s a launch; the queue itself costs nothing."""
    waiting: list[float] = []
    clock = 0.0

    def finish() -> None:
        nonlocal clock
        clock += 5.0 * bool(waiting) + sum(waiting)
        waiting.clear()

    monkeypatch.setattr(gpu_time.mx, "async_eval", lambda *arrays: waiting.extend(2.0 * (array.size == 1) for array in arrays))
    monkeypatch.setattr(gpu_time.mx, "synchronize", finish)
    monkeypatch.setattr(time, "perf_counter", lambda: clock)
    assert gpu_time.seconds_per_launch(lambda count: [mx.zeros(1)] * count, 3, repeats=2) == pytest.approx(2.0)


def test_a_comparison_gives_both_times_and_the_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def seconds(launches: gpu_time.Launches, count: int, repeats: int) -> float:
        asked.append(len(launches(2 * count)))
        return 0.5 * len(asked)

    monkeypatch.setattr(kernels, "seconds_per_launch", seconds)
    x = [mx.array([1.0, -4.0]), mx.array([2.0, 3.0])]
    row = measure(Comparison("double", "2", 2, 80, lambda i: x[i] * 2 + 0.08, lambda i: x[i] * 2), copy_speed=320.0, repeats=1)
    assert (row.ours, row.mlx, row.ratio, row.bandwidth) == (0.5, 1.0, 0.5, 0.5)
    assert row.difference == pytest.approx(0.01, rel=1e-4)
    assert asked == [4, 4], "launches take turns on all copies of the inputs"
