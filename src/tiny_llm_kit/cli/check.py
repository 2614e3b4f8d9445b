"""`pdm run check`: everything that has to hold before a change goes in. Made for those who change the course."""

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.skeleton import DRIFT
from tiny_llm_kit.course.consistency import find_contradictions, judge_stub
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course, find_root, load_course
from tiny_llm_kit.course.mistakes import load_mistakes, run_mistakes
from tiny_llm_kit.course.skeleton import find_drift, generate
from tiny_llm_kit.course.suite import SuiteRun, run_suites


@dataclass(frozen=True)
class Report:
    """How many results of a step were as they should be, what to print when some were not, and what to print anyway."""

    passed: int
    failed: int
    output: str
    notes: str = ""


def _report(problems: list[str]) -> Report:
    """Of a step that counts as one result."""
    return Report(int(not problems), int(bool(problems)), "\n".join(problems))


def _command(*arguments: str) -> Callable[[Path, Course], Report]:
    def run(root: Path, course: Course) -> Report:
        done = subprocess.run([sys.executable, "-m", *arguments], cwd=root, text=True, capture_output=True)
        return _report([done.stdout + done.stderr] if done.returncode else [])

    return run


def _drift(root: Path, course: Course) -> Report:
    drift = find_drift(root, generate(root, course))
    return _report([*(f"{how}: src/{LEARNER}/{path}" for path, how in drift.items()), DRIFT] if drift else [])


def _map(root: Path, course: Course) -> Report:
    return _report(find_contradictions(root, course, generate(root, course)))


def _kit(root: Path, course: Course) -> Report:
    return _suite_report(run_suites(root, ["tests/kit", "tests/metal"], REFERENCE, "-q"))


def _reference(root: Path, course: Course) -> Report:
    return _suite_report(run_suites(root, _all_tests(course), REFERENCE, "-q"))


def _all_tests(course: Course) -> list[str]:
    return [str(day.tests) for day in course.ready_days]


def _suite_report(run: SuiteRun) -> Report:
    failed = run.count("failed") + run.count("error")
    return Report(run.count("passed"), failed or int(run.exit_code != 0), run.output, run.describe_skipped())


def _stubs(root: Path, course: Course) -> Report:
    run = run_suites(root, _all_tests(course), LEARNER, "-q", "--tb=short")
    judged = [judge_stub(result, course) for result in run.results]
    problems = [problem for problem, _ in judged if problem]
    passed = sum(result.outcome == "failed" and not problem for result, (problem, _) in zip(run.results, judged, strict=True))
    if run.exit_code not in (0, 1) or not judged:  # 0 and 1: all tests ran
        problems.append(f"the suites could not run (pytest's exit code {run.exit_code}):\n{run.output}")
    notes = [f"warning: {warning}" for _, warning in judged if warning]
    notes += [run.describe_skipped()] if run.count("skipped") else []
    return Report(passed, len(problems), "\n".join(problems), "\n".join(notes))


def _mistakes(root: Path, course: Course) -> Report:
    verdicts = list(run_mistakes(root, course, load_mistakes(root, course)))
    lines = {wanted: [f"{v.mistake}: {v.detail}" for v in verdicts if v.caught is wanted] for wanted in (True, False, None)}
    return Report(len(lines[True]), len(lines[False]), "\n".join(lines[False]), "\n".join(lines[True] + lines[None]))


STEPS: dict[str, tuple[str, Callable[[Path, Course], Report]]] = {
    "lint": ("ruff check", _command("ruff", "check", ".")),
    "format": ("ruff format --check", _command("ruff", "format", "--check", ".")),
    "types": ("mypy", _command("mypy")),
    "skeleton": (f"src/{LEARNER} is what the skeleton generator writes", _drift),
    "map": ("course.toml says what is there", _map),
    "kit": ("tests of the kit, and of Metal on any CPU", _kit),
    "reference": ("every day's tests pass on the reference", _reference),
    "stubs": ("every day's tests fail on the skeleton, and name a task", _stubs),
    "mistakes": ("every known mistake is caught", _mistakes),
}


@click.command()
@click.option("--only", multiple=True, metavar="STEP", type=click.Choice(list(STEPS)), help="Run this step; repeatable.")
@click.option("--list", "listing", is_flag=True, help="List the steps and stop.")
def main(only: tuple[str, ...], listing: bool) -> None:
    """Checks the whole course: for those who change it, on a clone without a learner's work in src/tiny_llm.

    The last line counts tests that ended as they should and those that did not: on the skeleton a test should fail, a
    known mistake should be caught. A step without tests counts as one, and what was skipped counts as neither.
    """
    if listing:
        for name, (title, _) in STEPS.items():
            click.echo(f"{name:<10} {title}")
        return
    root = find_root()
    try:
        course = load_course(root)
    except ValueError as error:
        raise BadInput(str(error)) from None
    reports = [_run_step(name, root, course) for name in STEPS if name in only or not only]
    passed, failed = sum(report.passed for report in reports), sum(report.failed for report in reports)
    click.echo(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def _run_step(name: str, root: Path, course: Course) -> Report:
    title, step = STEPS[name]
    console = Console()
    start = time.perf_counter()
    with console.status(title):
        try:
            report = step(root, course)
        except ValueError as error:  # what the map, a mark or a list of mistakes has wrong
            report = _report([str(error)])
    seconds = time.perf_counter() - start
    word = "[red]failed[/]" if report.failed else "[green]ok[/]    "
    console.print(f"{word} {name:<10} {title:<56} {seconds:7.1f} s", highlight=False, soft_wrap=True)
    for text in (report.notes, report.output if report.failed else ""):
        if text:
            click.echo(text)
    return report


if __name__ == "__main__":
    main(prog_name="pdm run check")
