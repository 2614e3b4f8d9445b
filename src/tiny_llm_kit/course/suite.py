"""Runs test suites on an answer package in a process of their own, and says how each test ended.

The results come from pytest's JUnit report, which works with any reporter and any plugin.
"""

import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from metal_anywhere.errors import NO_COMPILER
from tiny_llm_kit.course import forks, processes, session
from tiny_llm_kit.course.begun import Choice
from tiny_llm_kit.course.course_map import REFERENCE, Day, Task

ENDED_EARLY = 3  # for pytest, an internal error
Outcome = Literal["passed", "failed", "error", "skipped"]


@dataclass(frozen=True)
class TestResult:
    """How one test ended. `suite` is its file as a dotted path from the project's root."""

    __test__ = False  # not a test itself, whatever pytest makes of the name

    suite: str
    name: str
    outcome: Outcome
    reason: str

    @property
    def node_id(self) -> str:
        """Its name on pytest's command line, if it is not in a class."""
        return f"{self.suite.replace('.', '/')}.py::{self.name}"

    @property
    def lacked_compiler(self) -> bool:
        """Whether it was skipped because Metal kernels cannot run on this machine."""
        return self.outcome == "skipped" and self.reason.startswith(NO_COMPILER)

    def belongs_to(self, day: Day) -> bool:
        tests = (day.tests or "").removesuffix(".py").strip("/").replace("/", ".")
        return bool(tests) and f"{self.suite}.".startswith(f"{tests}.")


@dataclass(frozen=True)
class SuiteRun:
    """What a run of pytest gave.

    `exit_code` is pytest's, or None when the run was stopped at its time limit. It is never 0 when the process ended before
    the tests did; `output` says so then.
    """

    exit_code: int | None
    results: list[TestResult]
    output: str

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results)

    @property
    def failures(self) -> list[TestResult]:
        """The tests that failed or could not begin, in the order in which they were run."""
        return [result for result in self.results if result.outcome in ("failed", "error")]

    def describe_skipped(self) -> str:
        """One line for each reason for which tests were skipped, with their number; "" if none were."""
        reasons = Counter(result.reason.partition("\n")[0] for result in self.results if result.outcome == "skipped")
        return "\n".join(f"{count} skipped: {reason}" for reason, count in reasons.items())


JUST_WHICH = ("-x", "-q", "--tb=native")
"""Arguments for a run of which only the first failing test is wanted: pytest's own traceback takes as long as many tests."""

QUICK = ("-m", "not real_model", "-o", "timeout=15")
"""Arguments for runs on wrong answers, of which many never end: without the real model no test computes for more than a few
seconds."""

PATIENCE = "TINY_LLM_PATIENCE"
"""The variable that says for how many seconds a test waits for what should be there at once; see tests/patience.py."""

NAMED = ("-o", "norecursedirs=")
"""For runs whose tests are named: which folders are not looked into is asked of each folder on the way to them."""

PLUGINS = ("_hypothesis_pytestplugin", "anyio.pytest_plugin", "pytest_timeout")
"""The installed plugins of pytest that suites need. To look for those that there are takes as long as a short test."""

IN_VAIN = 1.5
"""This many seconds when wrong answers are tried: hundreds of tests wait for what does not come."""


def files_that_test(task: Task, root: Path, suite: str) -> list[str]:
    """The files of a suite, which is a folder or a file: what need not be collected takes no time, and there are hundreds of
    runs."""
    files = sorted((root / suite).rglob("test_*.py")) if (root / suite).is_dir() else [root / suite]
    return [str(file.relative_to(root)) for file in files if f"def {task.tests_begin}" in file.read_text(encoding="utf-8")]


def run_suites(
    root: Path,
    tests: Iterable[str],
    solution: str,
    *pytest_arguments: str,
    keyword: str = "",
    python_path: Path | None = None,
    timeout: float | None = None,
    forked: bool = False,
    patience: float | None = None,
) -> SuiteRun:
    """Runs `tests` (paths from `root`) on the package `solution`, which may be in `python_path`. `timeout`: seconds.

    `keyword`: which of them, as pytest's `-k` says it.

    `forked` starts them quickly where many runs on altered copies of the reference follow each other, see `forks`. `patience`:
    see `PATIENCE`.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, note = Path(folder) / "report.xml", Path(folder) / "note"
        choice = Choice(list(tests), keyword, str(note), str(report))
        shared = ["--solution", solution, *pytest_arguments, "-p", "no:cacheprovider", "-o", "junit_family=xunit2"]
        environment = session.environment(root, *([python_path] if python_path else []))
        environment.setdefault("OPENBLAS_NUM_THREADS", "1")  # suites run two at a time
        if patience is not None:
            environment[PATIENCE] = str(patience)
        run = processes.run
        if forked:
            shared += [*NAMED, "--disable-plugin-autoload", *(f"-p{plugin}" for plugin in PLUGINS)]
            environment |= {"TINY_LLM_SOLUTION": solution}  # what a session has set before it was forked is forgotten
            run = partial(forks.run, own=_find_own(root, solution, shared), choice=choice)
        exit_code, output = run([*session.command(note), *choice.arguments, *shared], root, environment, timeout)
        ending = session.read_ending(note)
        if ending.exit_code is not None:
            exit_code = ending.exit_code
        elif exit_code is not None:
            exit_code, output = exit_code or ENDED_EARLY, f"{output}\n{ending.explain()}"
        return SuiteRun(exit_code, _read(report), output)


def _find_own(root: Path, solution: str, shared: list[str]) -> forks.Own:
    """`suite_imports`, the reference and a session, if `root` is this project. The small ones of the kit's tests do without:
    each would need its own."""
    source = Path(__file__).resolve().parents[2]
    if (root / "src").resolve() != source:
        return forks.NOTHING
    return forks.Own(source, "tiny_llm_kit.course.suite_imports", source / REFERENCE, solution, root, tuple(shared))


def _read(report: Path) -> list[TestResult]:
    if not report.exists():  # pytest was stopped, or could not start
        return []
    return [_result(case) for case in ElementTree.parse(report).iter("testcase")]


def _result(case: ElementTree.Element) -> TestResult:
    outcome: Outcome = "passed"
    reason = ""
    for child in case:
        match child.tag:
            case "failure":
                outcome = "failed"
            case "error" if outcome != "failed":
                outcome = "error"
            case "skipped":
                outcome = "skipped"
            case _:
                continue
        reason = reason or f"{child.get('message', '')}\n{child.text or ''}"
    return TestResult(case.get("classname", ""), case.get("name", ""), outcome, reason)
