"""The process in which the tests run on the answer, started by a supervisor: `python -m tiny_llm_kit.course.grading.graded`.

On its input it gets one JSON object: the secret and the descriptor for its messages, and what is to be tested. It tells of each
test that begins and how it ended, of what was not fair, and of its own end.
"""

import json
import os
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tiny_llm_kit.course.course_map import LEARNER, task_number
from tiny_llm_kit.course.grading.channel import Send, make_sender
from tiny_llm_kit.course.grading.findings import Findings
from tiny_llm_kit.course.grading.imports import ReferenceWatch, watch_imports
from tiny_llm_kit.course.grading.operators import Forbidden, Operators
from tiny_llm_kit.course.grading.owner import Owner, caller
from tiny_llm_kit.course.grading.tampering import Tampering, describe

_FILES = 16
_exit = os._exit  # as it is before the answer is there


class Collector:
    """A plugin that tells which tests there are."""

    def __init__(self, send: Send) -> None:
        self.send = send

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        for item in session.items:
            self.send({"kind": "item", "test": item.nodeid})

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        self.send({"kind": "end", "complete": exitstatus == pytest.ExitCode.OK})


class Examiner:
    """A plugin that runs the wanted tests, and tells how each ended. `day` is "1.1"."""

    def __init__(self, send: Send, wanted: list[str], day: str, answers: dict[str, list[str]], rules: list[Forbidden]) -> None:
        self.send = send
        self.wanted = set(wanted)
        self.day = day
        self.answers = answers
        self.rules = rules
        self.told = False
        self.left: set[str] = set()
        course = Path.cwd()
        self.owner = Owner(course.parent / "answer" / LEARNER, course)
        self.findings = Findings(send)
        self.tampering = Tampering(course)
        self.operators = Operators(self.owner, self.findings, self._find_task)

    @pytest.hookimpl(trylast=True)
    def pytest_configure(self, config: pytest.Config) -> None:
        self.operators.watch(self.rules)
        own = Forbidden((), "the tests compare with it", imports=tuple({path.stem for path in Path("tests").rglob("*.py")}))
        watch_imports([*self.rules, own], self.owner, self.findings)
        ReferenceWatch(self.owner, self.findings).watch()
        self._watch_exit()
        self.tampering.begin(config)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.send({"kind": "uncollected", "file": report.nodeid, "why": _outline(str(report.longrepr))})

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [item for item in items if item.nodeid in self.wanted]

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.left = {item.nodeid for item in session.items}
        self.operators.find_aliases(self.answers)
        if changed := self.tampering.begin_tests(session):
            self.findings.add("unfair", describe(changed), tasks=self.answers)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        self.findings.test, self.told, self.passed = item.nodeid, False, False
        self.send({"kind": "begin", "test": item.nodeid})
        try:
            return (yield)
        finally:
            if changed := self.tampering.find(item):
                self.findings.add("unfair", describe(changed))
            self._tell(item.nodeid, "passed" if self.passed else "failed", "")
            self.findings.test = None
            self.left.discard(item.nodeid)
            if self.left and not self._others_can_run():
                _exit(1)  # they run in another process

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """A failure is told at once: a test that cannot be stopped ends the process."""
        if report.failed:
            self._tell(report.nodeid, "failed", getattr(report, "why", str(report.longrepr)))
        elif report.skipped or hasattr(report, "wasxfail"):
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            self._tell(report.nodeid, "skipped", reason.removeprefix("Skipped: "))
        elif report.when == "call":
            self.passed = True

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self) -> None:
        self.send({"kind": "end", "complete": not self.left})

    def _tell(self, test: str, outcome: str, why: str) -> None:
        if not self.told:
            self.told = True
            self.send({"kind": "result", "test": test, "outcome": outcome, "why": why[:2000]})

    def _find_task(self) -> str | None:
        return f"{self.day}.{task_number(self.findings.test)}" if self.findings.test else None

    def _others_can_run(self) -> bool:
        """Whether an answer has left this process what tests need: a few files to open, and the folder that they run in."""
        try:
            for descriptor in [os.open(os.devnull, os.O_RDONLY) for _ in range(_FILES)]:
                os.close(descriptor)
            return Path.cwd() == self.owner.course
        except OSError:
            return False

    def _watch_exit(self) -> None:
        leave = os._exit

        def watched(status: int) -> NoReturn:
            if place := self.owner.find_place(caller()):
                self.findings.add("notice", "ends the process by os._exit", place)
            leave(status)

        os._exit = watched


def _outline(text: str) -> str:
    """The first and the last line that say something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(dict.fromkeys([lines[0], lines[-1]])) if lines else "it cannot be imported"


def main(job: dict[str, Any]) -> int:
    send = make_sender(bytes.fromhex(job.pop("secret")), job.pop("descriptor"))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.path.append(job["path"])
    if "wanted" in job:
        rules = [
            Forbidden(tuple(rule["tasks"]), rule["reason"], *map(tuple, (rule["calls"], rule["imports"])))
            for rule in job["rules"]
        ]
        plugin: object = Examiner(send, job["wanted"], job["day"], job["answers"], rules)
        own = [f"--timeout={job['seconds']}", "--continue-on-collection-errors"]
    else:
        plugin, own = Collector(send), ["--collect-only", "-q"]
    # pytest's configuration is the course's, whatever files lie around, and its plugins are those that the tests need.
    plugins = ["-p", "pytest_timeout", "-p", "_hypothesis_pytestplugin", "-p", "no:cacheprovider"]
    given = ["-c", "pyproject.toml", "--rootdir", ".", *plugins, "--tb=no", "--solution", job["solution"]]
    return int(pytest.main([*job["tests"], *given, *own], plugins=[plugin]))


if __name__ == "__main__":
    sys.exit(main(json.load(sys.stdin)))
