"""The steps of `pdm run check`: what has to hold before a change goes in.

A step is cut into parts, which are independent of each other and may be run side by side.
"""

import importlib.util
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from tiny_llm_kit.book import checks as book
from tiny_llm_kit.course import processes
from tiny_llm_kit.course.catchers import load_catchers
from tiny_llm_kit.course.consistency import find_contradictions, judge_stub
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course
from tiny_llm_kit.course.mistakes import Mistake, load_mistakes, run_mistake
from tiny_llm_kit.course.skeleton import DRIFT, find_drift, generate
from tiny_llm_kit.course.suite import SuiteRun, run_suites
from tiny_llm_kit.course.variants import Variant, load_variants, run_variant


@dataclass(frozen=True)
class Report:
    """How many results were as they should be, what to print when some were not, and what to print anyway.

    `began` and `ended` are on the clock of `time.perf_counter`, in seconds. `catchers`: of every mistake that a test caught,
    now or ever, the test that did so last.
    """

    passed: int
    failed: int
    output: str = ""
    notes: str = ""
    began: float = 0.0
    ended: float = 0.0
    catchers: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, problems: list[str]) -> "Report":
        """The report of something that counts as one result."""
        return cls(int(not problems), int(bool(problems)), "\n".join(problems))

    @classmethod
    def sum(cls, reports: "list[Report]") -> "Report":
        """The report of a step, from those of its parts."""
        return cls(
            sum(report.passed for report in reports),
            sum(report.failed for report in reports),
            "\n".join(report.output for report in reports if report.output),
            "\n".join(report.notes for report in reports if report.notes),
            min((report.began for report in reports), default=0.0),
            max((report.ended for report in reports), default=0.0),
            {mistake: test for report in reports for mistake, test in report.catchers.items()},
        )


Part = Callable[[], Report]


def _command(*arguments: str) -> Callable[[Path, Course], Report]:
    def run(root: Path, course: Course) -> Report:
        code, output = processes.run([sys.executable, "-m", *arguments], root, os.environ)
        return Report.of([output] if code else [])

    return run


def _drift(root: Path, course: Course) -> Report:
    drift = find_drift(root, generate(root, course))
    return Report.of([*(f"{how}: src/{LEARNER}/{path}" for path, how in drift.items()), DRIFT] if drift else [])


def _map(root: Path, course: Course) -> Report:
    return Report.of(find_contradictions(root, course, generate(root, course)))


def _book(root: Path, course: Course) -> Report:
    return Report.of([str(fault) for fault in book.find_faults(root, course)])


def _kit(root: Path, course: Course) -> list[Part]:
    """Three parts: in one piece it would run on, on one core, when the steps beside it are done."""
    files = [str(path.relative_to(root)) for path in sorted((root / "tests/kit").glob("test_*.py"))]
    return [partial(_pass, root, part) for part in (["tests/metal"], files[1::2], files[::2]) if part]


def _pass(root: Path, tests: list[str]) -> Report:
    return _suite_report(run_suites(root, tests, REFERENCE, "-q"))


def _reference(root: Path, course: Course) -> Report:
    return _pass(root, _all_tests(course))


def _replicas(root: Path, course: Course) -> Report:
    """It needs Ray, which is an optional extra: without it, the note says so."""
    if importlib.util.find_spec("ray") is None:
        return Report(0, 0, notes="Ray is not installed: pdm run setup-replicas, and this step runs, too")
    code, output = processes.run([sys.executable, "scripts/check_replicas.py"], root, os.environ)
    return Report.of([output] if code else [])


def _all_tests(course: Course) -> list[str]:
    return [str(day.tests) for day in course.ready_days]


def _suite_report(run: SuiteRun) -> Report:
    return Report(run.count("passed"), len(run.failures) or int(run.exit_code != 0), run.output, run.describe_skipped())


def _stubs(root: Path, course: Course) -> Report:
    run = run_suites(root, _all_tests(course), LEARNER, "-q", "--tb=no")  # thousands of tracebacks take longer than the tests
    judged = [judge_stub(result, course) for result in run.results]
    problems = [problem for problem, _ in judged if problem]
    passed = sum(result.outcome == "failed" and not problem for result, (problem, _) in zip(run.results, judged, strict=True))
    if run.exit_code not in (0, 1) or not judged:  # 0 and 1: all tests ran
        problems.append(f"the suites could not run (pytest's exit code {run.exit_code}):\n{run.output}")
    notes = [f"warning: {warning}" for _, warning in judged if warning]
    notes += [run.describe_skipped()] if run.count("skipped") else []
    return Report(passed, len(problems), "\n".join(problems), "\n".join(notes))


def _variant(root: Path, course: Course, variant: Variant) -> Report:
    verdict = run_variant(root, variant)
    line = f"{variant}: {verdict.detail}"
    if verdict.accepted is False:
        return Report(0, 1, line)
    return Report(int(verdict.accepted is True), 0, notes=line)


def _all_variants(root: Path, course: Course) -> list[Part]:
    return [partial(_variant, root, course, variant) for variant in load_variants(root, course)]


def _mistake(root: Path, course: Course, mistake: Mistake, noted: str) -> Report:
    verdict = run_mistake(root, course, mistake, noted)
    line = f"{verdict.mistake}: {verdict.detail}"
    last = verdict.catcher or noted
    catchers = {str(mistake): last} if last else {}
    if verdict.caught is False:
        return Report(0, 1, line, catchers=catchers)
    return Report(int(verdict.caught is True), 0, notes=line, catchers=catchers)


def _all_mistakes(root: Path, course: Course) -> list[Part]:
    catchers = load_catchers(root)
    return [partial(_mistake, root, course, mistake, catchers.get(str(mistake), "")) for mistake in load_mistakes(root, course)]


def _whole(step: Callable[[Path, Course], Report]) -> Callable[[Path, Course], list[Part]]:
    """The parts of a step that has one."""
    return lambda root, course: [partial(step, root, course)]


@dataclass(frozen=True)
class Step:
    """`find_parts` gives the quickest parts first, such as those of the first days: the check begins with the last."""

    title: str
    find_parts: Callable[[Path, Course], list[Part]]


STEPS = {
    "lint": Step("ruff check", _whole(_command("ruff", "check", "."))),
    "format": Step("ruff format --check", _whole(_command("ruff", "format", "--check", "."))),
    "types": Step("mypy", _whole(_command("mypy"))),
    "skeleton": Step(f"src/{LEARNER} is what the skeleton generator writes", _whole(_drift)),
    "map": Step("course.toml says what is there", _whole(_map)),
    "book": Step("the book's links, names, commands and English", _whole(_book)),
    "kit": Step("tests of the kit, and of Metal on any CPU", _kit),
    "reference": Step("every day's tests pass on the reference", _whole(_reference)),
    "stubs": Step("every day's tests fail on the skeleton, and name a task", _whole(_stubs)),
    "variants": Step("right answers of another shape pass", _all_variants),
    "mistakes": Step("every known mistake is caught", _all_mistakes),
    "replicas": Step("on Ray Serve, answers survive the death of a replica", _whole(_replicas)),
}


def parts_of(name: str, root: Path, course: Course) -> list[Part]:
    """The parts of a step, which can be run in any order; none of them raises a ValueError, it fails instead."""
    try:
        return [partial(_run_part, part) for part in STEPS[name].find_parts(root, course)]
    except ValueError as error:  # what is wrong with a list of variants or mistakes
        return [partial(Report.of, [str(error)])]


def _run_part(part: Part) -> Report:
    began = time.perf_counter()
    try:
        report = part()
    except ValueError as error:  # what is wrong with the map or a mark
        report = Report.of([str(error)])
    return replace(report, began=began, ended=time.perf_counter())
