"""What only a machine with a GPU can say about the Metal kernels: whether their suites pass there, and their speed goals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.console import Console

from tiny_llm_kit.bench.kernel_report import Report
from tiny_llm_kit.bench.report import TARGET_COLUMNS, Table, Target
from tiny_llm_kit.cli.progress import progress_bar
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.suite import SuiteRun, run_suites

KERNEL_DAYS = ((2, 3), (2, 4), (3, 2))
TRANSLATION = "tests/metal/test_gpu.py"
"""The suite that holds the GPU, and with it the translation to CUDA, to what the CPU runner computes."""

LEAST_BANDWIDTH = 0.6
MOST_OF_MLX_TIME = 1.5
MOST_OF_GATHERED_TIME = 1.0


def run_kernel_suites(console: Console, solution: str, timeout: int) -> dict[str, SuiteRun]:
    """The suites of the kernels' days and of the translation, by name, each stopped after `timeout` seconds."""
    root = find_root()
    course = load_course(root)
    days = [course.find_day(*day) for day in KERNEL_DAYS]
    tests = {str(day): day.tests for day in days if day.tests} | {"kernels on the GPU and on the CPU": TRANSLATION}
    runs = {}
    with progress_bar(console, "suites", len(tests)) as bar:
        for name, path in tests.items():
            bar.describe(name)
            runs[name] = run_suites(root, [path], solution, timeout=timeout)
            bar.advance()
    return runs


def goals_of(suites: Mapping[str, SuiteRun], records: Sequence[Mapping[str, Any]]) -> list[Target]:
    """Every suite passes; mat-vec reaches a share of a copy's bandwidth; decode attention takes little longer than MLX's, and
    paged attention no longer than MLX takes to gather the blocks and attend."""
    by_name = {record["name"]: record for record in records}
    bandwidth = by_name.get("matvec_vector", {}).get("bandwidth")
    ratio = by_name.get("decode_attention", {}).get("ratio")
    paged = by_name.get("paged_attention", {}).get("ratio")
    return [
        *(Target(f"{name}: tests passed", _share_passed(run), 1.0, True, "{:.0%}".format) for name, run in suites.items()),
        Target("matvec_vector: of a copy's bandwidth", bandwidth, LEAST_BANDWIDTH, True, "{:.0%}".format),
        Target("decode_attention: of MLX's time", ratio, MOST_OF_MLX_TIME, False, "{:.2f}".format),
        Target("paged_attention: of MLX's, gathering first", paged, MOST_OF_GATHERED_TIME, False, "{:.2f}".format),
    ]


def with_goals(report: Report, suites: Mapping[str, SuiteRun], goals: Sequence[Target]) -> Report:
    """The report of the kernels, with their suites and goals."""
    table = Table("goals", TARGET_COLUMNS, [goal.row() for goal in goals])
    outputs = [f"{name}:\n{run.output}" for name, run in suites.items() if _share_passed(run) < 1]
    about = {"suites": {name: _as_json(run) for name, run in suites.items()}, "goals": [goal.as_json() for goal in goals]}
    return replace(report, about=report.about | about, tables=[*report.tables, table], notes=[*report.notes, *outputs])


def _share_passed(run: SuiteRun) -> float:
    """The share of the tests not skipped that passed; 0 where pytest itself failed, was stopped, or found nothing to run."""
    ran = len(run.results) - run.count("skipped")
    return run.count("passed") / ran if ran and run.exit_code in (0, 1) else 0.0


def _as_json(run: SuiteRun) -> dict[str, Any]:
    outcomes = Counter(result.outcome for result in run.results)
    not_passed = {result.name: result.reason for result in run.failures}
    return {"exit_code": run.exit_code, "outcomes": outcomes, "not_passed": not_passed}
