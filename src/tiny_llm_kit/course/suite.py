"""Runs test suites on an answer package in a process of their own, and says how each test ended.

The results come from pytest's JUnit report, which works with any reporter and any plugin.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from metal_anywhere.errors import NO_COMPILER
from tiny_llm_kit.course.course_map import Day

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
    def lacked_compiler(self) -> bool:
        """Whether it was skipped because Metal kernels cannot run on this machine."""
        return self.outcome == "skipped" and self.reason.startswith(NO_COMPILER)

    def belongs_to(self, day: Day) -> bool:
        tests = (day.tests or "").removesuffix(".py").strip("/").replace("/", ".")
        return bool(tests) and f"{self.suite}.".startswith(f"{tests}.")


@dataclass(frozen=True)
class SuiteRun:
    """What a run of pytest gave. `exit_code` is pytest's, or None when the run was stopped at its time limit."""

    exit_code: int | None
    results: list[TestResult]
    output: str

    def count(self, outcome: Outcome) -> int:
        return sum(result.outcome == outcome for result in self.results)

    def describe_skipped(self) -> str:
        """One line for each reason for which tests were skipped, with their number; "" when none was."""
        reasons = Counter(result.reason.partition("\n")[0] for result in self.results if result.outcome == "skipped")
        return "\n".join(f"{count} skipped: {reason}" for reason, count in reasons.items())


def run_suites(
    root: Path,
    tests: Iterable[str],
    solution: str,
    *pytest_arguments: str,
    python_path: Path | None = None,
    timeout: float | None = None,
) -> SuiteRun:
    """Runs `tests` (paths from `root`) on the package `solution`, which may be in `python_path`. `timeout`: seconds."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        command = [sys.executable, "-m", "pytest", *tests, "--solution", solution, *pytest_arguments]
        command += ["-p", "no:cacheprovider", f"--junitxml={report}", "-o", "junit_family=xunit2"]
        exit_code, output = _run(command, root, python_path, timeout)
        return SuiteRun(exit_code, _read(report), output)


def _run(command: list[str], root: Path, python_path: Path | None, timeout: float | None) -> tuple[int | None, str]:
    paths = [str(path) for path in (python_path, root / "src", os.environ.get("PYTHONPATH")) if path]
    process = subprocess.Popen(
        command,
        cwd=root,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,  # its own process group: a suite that hangs is stopped with all that it started
    )
    try:
        output, _ = process.communicate(timeout=timeout)
        return process.returncode, output
    except subprocess.TimeoutExpired:
        _stop_group(process)
        output, _ = process.communicate()
        return None, output
    except BaseException:  # Ctrl-C does not reach the group by itself
        _stop_group(process)
        raise


def _stop_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


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
