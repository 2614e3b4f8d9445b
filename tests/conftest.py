"""What every suite shares: `--solution`, and a summary that says of each failing test, in full, what to look at."""

import os

import hypothesis
import pytest

from tiny_llm_kit.course import LEARNER, solution_package

# The same examples in every run, no test that depends on the machine's speed, and one failure at a time to look at.
hypothesis.settings.register_profile("course", derandomize=True, deadline=None, report_multiple_bugs=False)
hypothesis.settings.load_profile("course")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--solution", help=f"the package to test; ref is the reference (default: {LEARNER})")


def pytest_configure(config: pytest.Config) -> None:
    if solution := config.getoption("--solution"):
        try:
            os.environ["TINY_LLM_SOLUTION"] = solution_package(solution)  # before any test file imports `answer`
        except ValueError as error:
            raise pytest.UsageError(str(error)) from None
    # pytest's own summary is cut off at the width of the terminal, which often leaves nothing of the reason.
    if config.option.reportchars == "fE":
        config.option.reportchars = ""


def pytest_report_header() -> str:
    return f"solution: {os.environ.get('TINY_LLM_SOLUTION', LEARNER)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [
        (kind, report)
        for kind in ("failed", "error")
        for report in terminalreporter.stats.get(kind, [])
        if not terminalreporter.config.option.reportchars
    ]
    if reports:
        terminalreporter.section("what failed, and why")
    for kind, report in reports:
        crash = getattr(report.longrepr, "reprcrash", None)  # a file that cannot be collected has none
        reason = crash.message.partition("\n")[0] if crash else "see above"
        terminalreporter.line(f"{kind.upper()} {report.nodeid} - {reason}")
