"""A plugin of pytest that writes what happens, a line of JSON each, to a file: `-p tiny_llm_kit.course.observer --events FILE`.

A line is written at once, so that a reader of the file knows all that happened before the process died.
"""

import json
import os
import sys
from collections.abc import Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from tiny_llm_kit.course.differences import clip
from tiny_llm_kit.course.explain import Comparison, explain
from tiny_llm_kit.course.failure import Failure
from tiny_llm_kit.course.reference_guard import ReferenceGuard

_PRINTED_LINES, _PRINTED_WIDTH = 5, 100


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--events", help="the file to which what happens is written")
    parser.addoption("--without", help="a file with a JSON list of the tests that are not run")
    parser.addoption("--unwritten", default="", help="what the tests of tasks without any answer begin with, by commas")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--events"):
        config.pluginmanager.register(_Observer(config, Path(path)))


class _Observer:
    def __init__(self, config: pytest.Config, path: Path) -> None:
        self.config = config
        self.path = path
        self.compared: Comparison | None = None
        self.unwritten = tuple(filter(None, config.getoption("--unwritten").split(",")))
        self.stubs: dict[str, Failure] = {}

    def write(self, event: str, **details: Any) -> None:
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"event": event, **details}) + "\n")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if path := self.config.getoption("--without"):
            without = set(json.loads(Path(path).read_text(encoding="utf-8")))
            items[:] = [item for item in items if item.nodeid not in without]

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.write("collected", tests=[item.nodeid for item in session.items])

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            failure = Failure("unimportable", _last_line(report.longreprtext), example=tuple(report.longreprtext.splitlines()))
            self.write("uncollected", file=report.nodeid, failure=asdict(failure))

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
        """Once a test of a task without any answer has met a stub, the others of that task need not run: they would, too."""
        stub = next((failure for begin, failure in self.stubs.items() if item.name.startswith(begin)), None)
        if stub is None:
            return None
        self.write("end", test=item.nodeid, outcome="not run", reason="", failure=asdict(stub))
        item.session._setupstate.teardown_exact(nextitem)  # the test before has left what this one would have needed
        return True

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.compared = None
        self.write("begin", test=nodeid)

    def pytest_assertrepr_compare(self, op: str, left: object, right: object) -> None:
        frame = sys._getframe()
        while frame.f_back and Path(frame.f_code.co_filename).parts[-2:][0] in ("course", "assertion", "pluggy", "_pytest"):
            frame = frame.f_back
        self.compared = Comparison(op, left, right, frame, frame.f_lineno)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[Any]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        if call.excinfo and report.failed:
            vars(report)["failure"] = self._explain(call.excinfo.value)
        return report

    def _explain(self, error: BaseException) -> Failure:
        package = os.environ.get("TINY_LLM_SOLUTION", "tiny_llm")
        try:
            failure = explain(error, self.compared, self.config.rootpath / "tests", package)
        except Exception as problem:  # a value that can't be shown, for one, must not hide why the test failed
            failure = Failure("raised", "", example=(f"(this could not be described: {type(problem).__name__}: {problem})",))
        notes = getattr(error, "__notes__", [])
        return replace(failure, example=failure.example + tuple(line for note in notes for line in str(note).splitlines()))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            failure = self._complete(report) if report.failed else None
            if failure and failure.kind == "stub":
                name = report.nodeid.rpartition("::")[2]
                self.stubs |= {begin: failure for begin in self.unwritten if name.startswith(begin)}
            reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
            outcome = "error" if report.failed and report.when != "call" else report.outcome
            self.write("end", test=report.nodeid, outcome=outcome, reason=reason, failure=failure and asdict(failure))

    def _complete(self, report: pytest.TestReport) -> Failure:
        """With what the suites' own hooks have found out about the error."""
        failure = getattr(report, "failure", Failure("raised", ""))
        why = getattr(report, "why", "") or failure.why or _last_line(report.longreprtext)
        where = getattr(report, "where", "") or failure.where
        printed = [*report.capstdout.splitlines(), *report.capstderr.splitlines()]
        return replace(
            failure,
            why=why.removeprefix("AssertionError: ").removeprefix("DidNotEnd: "),
            where=where,
            kept=getattr(report, "kept", ""),
            printed=tuple(clip(line, _PRINTED_WIDTH) for line in printed[-_PRINTED_LINES:]),
        )

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        uses = [use for finder in sys.meta_path if isinstance(finder, ReferenceGuard) for use in finder.find_uses()]
        self.write("finished", uses=uses, stopped=str(session.shouldstop or ""))


def _last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")
