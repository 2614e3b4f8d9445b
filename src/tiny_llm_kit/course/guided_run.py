"""Runs tests for a listener that hears of each as it ends, whatever an answer does: loop for ever, crash, or exit.

The tests run in a process of their own (`session`), whose plugin (`observer`) writes what happens to a file. When the process
dies in a test, or has to be stopped, the tests that are left run in another one.
"""

import json
import os
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from tiny_llm_kit.course import processes, session
from tiny_llm_kit.course.course_map import task_number
from tiny_llm_kit.course.deaths import describe_end, find_line
from tiny_llm_kit.course.failure import Failure
from tiny_llm_kit.course.stuck import StuckWatch

TIMEOUT = 50.0
"""Seconds after which a test is stopped: `timeout` in pyproject.toml."""

ENOUGH = 3
"""Tests of one task that crashed or never ended, after which its others are not begun."""

_POLL, _LINGER = 0.05, 5.0


@dataclass(frozen=True)
class Ended:
    """How a test ended: passed, failed, error (it could not begin), skipped for a `reason`, or not run.

    Not run are tests that would meet the same stub as one before them, and `failure` is that one's.
    """

    test: str
    outcome: str
    reason: str = ""
    failure: Failure | None = None


@dataclass
class Run:
    """What came out. `tests` are all that should run, in order; `left_out` those that were not begun, each with the reason."""

    tests: list[str] = field(default_factory=list)
    results: dict[str, Ended] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    unimportable: list[Failure] = field(default_factory=list)
    uses: list[str] = field(default_factory=list)
    exit_code: int | None = None
    output: str = ""

    @property
    def failures(self) -> list[Ended]:
        return [self.results[test] for test in self.tests if test in self.results and self.results[test].failure]

    @property
    def passed(self) -> bool:
        clean = not (self.failures or self.left_out or self.unimportable or self.uses)
        return clean and bool(self.tests) and self.results.keys() >= set(self.tests)


class Listener(Protocol):
    """Hears what happens while it does."""

    def collected(self, tests: Sequence[str]) -> None: ...

    def began(self, test: str) -> None: ...

    def ended(self, result: Ended) -> None: ...


def run_tests(
    root: Path,
    run: Run,
    tests: Sequence[str],
    package: str,
    listener: Listener,
    arguments: Sequence[str] = (),
    aloud: bool = False,
    timeout: float = TIMEOUT,
) -> None:
    """Runs `tests` (files, folders or tests) on `package`, and fills `run` as it goes, so that an interrupted one is good, too.

    `aloud` shows pytest's own output. `timeout`: seconds after which the suites stop a test; this waits somewhat longer.
    """
    with tempfile.TemporaryDirectory() as folder, processes.stopped_by_signals():
        while True:
            known = len(run.results)
            child = _Child(root, Path(folder), run, listener, aloud, timeout)
            child.run([*tests, "--solution", package, "--continue-on-collection-errors", *arguments])
            if not child.broke_off or len(run.results) == known:
                break
            _give_up_hopeless(run)
            if run.results.keys() | run.left_out.keys() >= set(run.tests):
                break
    run.exit_code = child.exit_code


def _give_up_hopeless(run: Run) -> None:
    """The tests that are left of tasks of which `ENOUGH` tests broke the process, or had to be stopped."""
    broke = Counter(task_number(result.test) for result in run.failures if _kind(result) in ("crashed", "endless"))
    for test in run.tests:
        if test not in run.results and broke[task_number(test)] >= ENOUGH:
            run.left_out[test] = f"{ENOUGH} tests of this task crashed or never ended: fix these first"


def _kind(result: Ended) -> str:
    return result.failure.kind if result.failure else ""


class _Child:
    """One process, and what it says."""

    def __init__(self, root: Path, folder: Path, run: Run, listener: Listener, aloud: bool, timeout: float) -> None:
        self.root, self.total, self.listener, self.aloud, self.timeout = root, run, listener, aloud, timeout
        self.note, self.events, self.log, self.without = (folder / name for name in ("note", "events", "log", "without"))
        for path in (self.note, self.events):
            path.unlink(missing_ok=True)
        self.events.touch()
        self.process: subprocess.Popen[str] | None = None
        self.current = ""
        self.broke_off = False
        self.exit_code: int | None = None

    def run(self, arguments: list[str]) -> None:
        self.without.write_text(json.dumps([*self.total.results, *self.total.left_out]), encoding="utf-8")
        plugin = ["-p", "tiny_llm_kit.course.observer", f"--events={self.events}", f"--without={self.without}"]
        command = [*session.command(self.note), *arguments, *plugin, "-p", "no:cacheprovider"]
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(processes.run, command, self.root, session.environment(self.root), start=self._start)
            stopped = self._follow(running)
            exit_code, _ = running.result()
        ending = session.read_ending(self.note)
        self.exit_code = ending.exit_code
        if not self.aloud:
            self.total.output = self.log.read_text(encoding="utf-8", errors="replace")
        if ending.exit_code is None:
            self._report_death(stopped or describe_end(exit_code))

    def _start(self, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> processes.Process:
        with self.log.open("w") as log:
            output = None if self.aloud else log
            self.process = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output and subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        return self.process

    def _follow(self, running: "Future[tuple[int | None, str]]") -> str:
        """Hands on what the process says until it ends. Why it had to be stopped, if it had to before its session ended."""
        with self.events.open(encoding="utf-8") as lines:
            watch = StuckWatch(self.timeout)
            while not running.done():
                for event in _read_events(lines):
                    self._hear(event)
                    watch.restart(self.process)
                if session.read_ending(self.note).exit_code is not None:
                    if watch.silence > _LINGER:  # a thread of the answer keeps the process from ending
                        self._kill()
                elif reason := watch.find_reason_to_stop(self.process, bool(self.current)):
                    self._kill()
                    return reason
                time.sleep(_POLL)
            for event in _read_events(lines):
                self._hear(event)
        return ""

    def _kill(self) -> None:
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)

    def _hear(self, event: dict[str, Any]) -> None:
        run = self.total
        match event["event"]:
            case "collected":
                if not run.tests:
                    run.tests = event["tests"]
                    self.listener.collected(run.tests)
            case "begin":
                self.current = event["test"]
                self.listener.began(self.current)
            case "end":
                self._end(event)
            case "uncollected":
                failure = Failure.from_json(event["failure"])
                if failure.example not in [known.example for known in run.unimportable]:
                    run.unimportable.append(failure)
            case "finished":
                run.uses.extend(use for use in event["uses"] if use not in run.uses)
                self.broke_off = bool(event["stopped"])

    def _end(self, event: dict[str, Any]) -> None:
        failure = event["failure"] and Failure.from_json(event["failure"])
        before = self.total.results.get(event["test"])
        if before is None or before.failure is None:  # what fails as it is torn down has been reported already
            result = Ended(event["test"], event["outcome"], event["reason"], failure)
            self.total.results[result.test] = result
            self.listener.ended(result)

    def _report_death(self, how: str) -> None:
        """The process died in the test that had begun; when that has its result, the suites' own watchdog ended it."""
        self.broke_off = True
        if not self.current:
            last = tuple(self.total.output.splitlines()[-10:])
            self.total.unimportable.append(Failure("crashed", f"before the first test, {how}", example=last))
            self.broke_off = False
        elif self.current not in self.total.results:
            failure = Failure("crashed", f"in this test, {how}", where=find_line(self.total.output, self.root))
            result = Ended(self.current, "failed", failure=failure)
            self.total.results[result.test] = result
            self.listener.ended(result)


def _read_events(lines: Any) -> Iterator[dict[str, Any]]:
    """What was written since the last time. A line that is written in part only, as the process dies, is left alone."""
    while True:
        place = lines.tell()
        line = lines.readline()
        if not line.endswith("\n"):
            lines.seek(place)
            return
        yield json.loads(line)
