"""`pdm run gpu-check`: all that only a machine with a GPU can tell of the Metal kernels, in one run."""

import tiny_llm_kit.cli  # noqa: F401  # first: from here on Ctrl-C is one line

# isort: split

import json
from collections import Counter
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import click
from rich.console import Console

from metal_anywhere.backend import backend
from tiny_llm_kit.bench.each_kernel import look_at_each
from tiny_llm_kit.bench.kernel_cases import comparisons
from tiny_llm_kit.bench.kernels import COLUMNS, Figures, copy_bandwidth, hand_over_queues_whole, measure
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.cli.answers import import_answer, unfinished_tasks_end_the_program
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.tables import make_console, make_progress, plain_table
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.suite import SuiteRun, run_suites
from tiny_llm_kit.machine.description import describe_machine

KERNEL_DAYS = ((2, 3), (2, 4))
TRANSLATION = "tests/metal/test_gpu.py"
"""The suite that holds the GPU, and with it the translation to CUDA, to what the CPU runner computes."""

LEAST_BANDWIDTH = 0.6
MOST_OF_MLX_TIME = 1.5


@click.command()
@click.option("--solution", default="ref", show_default=True, help="Whose kernels: ref, or tiny_llm for your own.")
@click.option("--repeats", type=click.IntRange(min=1), default=25, show_default=True, help="Times each kernel is measured.")
@click.option("--timeout", type=click.IntRange(min=1), default=1800, show_default=True, help="Seconds a suite may take.")
@click.option("--report", type=click.Path(dir_okay=False, path_type=Path), help="[default: results/gpu-check-<date>.json]")
def main(solution: str, repeats: int, timeout: int, report: Path | None) -> None:
    """Run the kernels' tests on the GPU, and measure the kernels beside MLX's own.

    Goals: every suite passes; the quantized mat-vec reaches 60 % of the bandwidth of a copy in the same process; decode
    attention takes at most 1.5 times as long as MLX's. The exit code is 0 if all goals are met, 1 if not, and 2 if there is no
    GPU. Times are the GPU's alone, without Python's, and data comes from memory and not from a cache.
    """
    if backend() == "cpu":
        raise BadInput("MLX computes on the CPU here. Run this on Apple silicon, or on NVIDIA with MLX's CUDA backend.")
    hand_over_queues_whole()
    console = make_console()
    with unfinished_tasks_end_the_program():
        answer = import_answer(solution)
        suites = _run_suites(console, solution, timeout)
        copy_speed, figures, failures = _measure(console, answer, repeats)

    goals = _goals(suites, figures)
    troubles = failures | {name: run.output for name, run in suites.items() if _share_passed(run) < 1}
    for name, text in troubles.items():
        console.print(f"{name}:", text, sep="\n", highlight=False, markup=False)
    machine = describe_machine()
    title = f"{machine['gpu']}; a copy moves {copy_speed / 1e9:.0f} GB/s"
    console.print(plain_table(title, COLUMNS, [row.cells() for row in figures]))
    console.print(plain_table("goals", ["", "wanted", "measured", "met"], [goal.row() for goal in goals]))
    document = {
        "machine": machine,
        "solution": solution,
        "repeats": repeats,
        "copy_bytes_per_second": copy_speed,
        "kernels": [asdict(row) | {"ratio": row.ratio} for row in figures],
        "not_measured": failures,
        "suites": {name: _as_json(run) for name, run in suites.items()},
        "goals": [{"name": goal.name, "limit": goal.limit, "value": goal.value, "met": goal.met} for goal in goals],
    }
    path = report or find_root() / "results" / f"gpu-check-{datetime.now(UTC):%Y-%m-%d}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    console.print(f"Written: {path}")
    raise SystemExit(0 if all(goal.met for goal in goals) else 1)


def _run_suites(console: Console, solution: str, timeout: int) -> dict[str, SuiteRun]:
    root = find_root()
    course = load_course(root)
    days = [course.find_day(*day) for day in KERNEL_DAYS]
    tests = {str(day): day.tests for day in days if day.tests} | {"kernels on the GPU and on the CPU": TRANSLATION}
    runs = {}
    with make_progress(console) as progress:
        bar = progress.add_task("suites", total=len(tests))
        for name, path in tests.items():
            progress.update(bar, description=name)
            runs[name] = run_suites(root, [path], solution, timeout=timeout)
            progress.advance(bar)
    return runs


def _measure(console: Console, answer: ModuleType, repeats: int) -> tuple[float, list[Figures], dict[str, str]]:
    """The speed of a copy, the figures, and why there are none of the other kernels."""
    with console.status("Measuring a copy …"):
        copy_speed = copy_bandwidth(repeats)
    look_at = partial(measure, copy_speed=copy_speed, repeats=repeats)
    return copy_speed, *look_at_each(console, comparisons(answer), look_at)


def _goals(suites: dict[str, SuiteRun], figures: list[Figures]) -> list[Target]:
    by_name = {row.name: row for row in figures}
    matvec, attention = by_name.get("matvec_vector"), by_name.get("decode_attention")
    bandwidth, ratio = matvec.bandwidth if matvec else None, attention.ratio if attention else None
    return [
        *(Target(f"{name}: tests passed", _share_passed(run), 1.0, True, "{:.0%}".format) for name, run in suites.items()),
        Target("matvec_vector: of a copy's bandwidth", bandwidth, LEAST_BANDWIDTH, True, "{:.0%}".format),
        Target("decode_attention: of MLX's time", ratio, MOST_OF_MLX_TIME, False, "{:.2f}".format),
    ]


def _share_passed(run: SuiteRun) -> float:
    """Of the tests that were not skipped; 0 where pytest itself failed, was stopped, or found nothing to run."""
    ran = len(run.results) - run.count("skipped")
    return run.count("passed") / ran if ran and run.exit_code in (0, 1) else 0.0


def _as_json(run: SuiteRun) -> dict[str, Any]:
    outcomes = Counter(result.outcome for result in run.results)
    not_passed = {result.name: result.reason for result in run.results if result.outcome in ("failed", "error")}
    return {"exit_code": run.exit_code, "outcomes": outcomes, "not_passed": not_passed}


if __name__ == "__main__":
    main(prog_name="pdm run gpu-check")
