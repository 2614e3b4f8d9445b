"""What every suite shares: `--solution`, and a summary that says of each failing test, in full, what to look at and where.

Where Metal kernels cannot run for want of a C++ compiler, a test that needs one is skipped, and the summary says so; the same
for want of a clang, which the address spaces of kernels are checked with.
"""

import functools
import os
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from endless import pytest_timeout_set_timer as pytest_timeout_set_timer
from metal_anywhere.errors import NO_CLANG, NO_COMPILER, find_no_compiler
from reasons import find_kept, first_line, own_line
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Day, find_root, load_course, solution_package
from tiny_llm_kit.course.reference_guard import ReferenceGuard

# The same examples in every run, no test that depends on the machine's speed, and one failure at a time to look at, of which
# nothing is said but the example.
hypothesis.settings.register_profile(
    "course",
    derandomize=True,
    deadline=None,
    report_multiple_bugs=False,
    print_blob=False,
    database=None,
    phases=set(hypothesis.Phase) - {hypothesis.Phase.explain},
)
hypothesis.settings.load_profile("course")

ROOT = find_root()
guard = ReferenceGuard(LEARNER)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--solution", help=f"the package to test; ref is the reference (default: {LEARNER})")
    parser.addoption("--first", help="run the tests whose names or files hold this text before the others")


def pytest_configure(config: pytest.Config) -> None:
    if solution := config.getoption("--solution"):
        try:
            os.environ["TINY_LLM_SOLUTION"] = solution_package(solution)  # before any test file imports `answer`
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    guard.package = os.environ.get("TINY_LLM_SOLUTION", LEARNER)
    if guard.package != REFERENCE:
        sys.meta_path.insert(0, guard)
    # pytest's own summary is cut off at the width of the terminal, which often leaves nothing of the reason.
    if config.option.reportchars == "fE":
        config.option.reportchars = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for day in load_course(ROOT).ready_days:
        _put_into_working_order(items, day)
    for place in _places_in(ROOT / "tests/kit", items):  # they run whole suites
        items[place].add_marker(pytest.mark.timeout(600))
    if first := config.getoption("--first"):
        items.sort(key=lambda item: first not in item.nodeid)


def _places_in(suite: Path, items: list[pytest.Item]) -> list[int]:
    """Where the tests of a folder or file are among the items. Files are few and tests many, so files are compared."""
    files = {path for path in {item.path for item in items} if path.is_relative_to(suite)}
    return [place for place, item in enumerate(items) if item.path in files]


def _put_into_working_order(items: list[pytest.Item], day: Day) -> None:
    places = _places_in(ROOT / str(day.tests), items)
    own = [items[place] for place in places]
    own.sort(key=lambda item: day.place_of(item.name))
    for place, item in zip(places, own, strict=True):
        items[place] = item


def pytest_report_header() -> str:
    return f"solution: {os.environ.get('TINY_LLM_SOLUTION', LEARNER)}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    try:
        return (yield)
    except (AssertionError, pytest.fail.Exception) as error:
        for kept in find_kept(error).values():
            if isinstance(kept, NotImplementedError):  # of a stub: it names the task that comes first
                raise kept from None
        raise


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[Any]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    vars(item).pop("_hypothesis_failing_examples", None)  # from which Hypothesis would make a patch to the tests
    report = yield
    if not call.excinfo:
        return report
    error = call.excinfo.value
    if isinstance(error, pytest.fail.Exception):  # "did not warn" says less than what was raised in between
        error = error.__context__ or error
    vars(report).update(why=first_line(error), where=own_line(error), kept=_describe_kept(error))
    if error := find_no_compiler(call.excinfo.value):
        report.outcome = "skipped"
        report.longrepr = (str(item.path), item.location[1] or 0, f"Skipped: {error.problem}")
    return report


def _describe_kept(error: BaseException) -> str:
    """The error of the first request among those that the test was looking at that had ended with one."""
    for number, kept in find_kept(error).items():
        if kept not in (error, error.__cause__):
            place = own_line(kept)
            return f"request {number} had ended with {first_line(kept)}{place and f', in {place}'}"
    return ""


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _uses_of_reference():
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@functools.cache
def _uses_of_reference() -> list[str]:
    """Asked for once the tests are over."""
    return guard.find_uses() if guard in sys.meta_path else []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    _summarize_uses_of_reference(terminalreporter)
    _summarize_failed(terminalreporter)
    _summarize_skipped(terminalreporter)


def _summarize_uses_of_reference(terminalreporter: pytest.TerminalReporter) -> None:
    uses = _uses_of_reference()
    if uses:
        terminalreporter.section("the answer uses the reference, so this run does not count", red=True)
    for use in uses:
        terminalreporter.line(use)


def _summarize_failed(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        (kind, report)
        for kind in ("failed", "error")
        for report in terminalreporter.stats.get(kind, [])
        if not terminalreporter.config.option.reportchars
    ]
    if reports:
        terminalreporter.section("what failed, and why")
    for kind, report in reports:
        why = getattr(report, "why", "see above")  # that of a file that cannot be collected
        terminalreporter.line(f"{kind.upper()} {report.nodeid} - {why}")
        where = getattr(report, "where", "")
        if where not in why:
            terminalreporter.line(f"    in {where}")
        if kept := getattr(report, "kept", ""):
            terminalreporter.line(f"    {kept}")


def _summarize_skipped(terminalreporter: pytest.TerminalReporter) -> None:
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])]
    counts = Counter(reason for reason in reasons if reason.startswith((NO_COMPILER, NO_CLANG)))
    if counts:
        terminalreporter.section("Metal tests that could not run")
    for reason, count in counts.items():
        terminalreporter.line(f"{'1 test was' if count == 1 else f'{count} tests were'} skipped: {reason}")
