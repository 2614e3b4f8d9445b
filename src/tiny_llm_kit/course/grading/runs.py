"""Runs tests on the answer until each has ended somehow: one that takes the process with it fails, and the next run goes on."""

import contextlib
import json
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import tiny_llm_kit
from tiny_llm_kit.course import processes
from tiny_llm_kit.course.course_map import Day, task_number
from tiny_llm_kit.course.grading.channel import Message
from tiny_llm_kit.course.grading.room import Room

LOOK_SECONDS = 0.2

ENOUGH = 2
"""Tests of a task that took their process with them, or did not end, after which its others are not run."""


@dataclass(frozen=True)
class Limits:
    """`seconds` are for one test, all else for all processes of a run together; `file` is the size of one file, in bytes."""

    seconds: float = 50.0
    memory: int = 4 << 30
    processes: int = 64
    output: int = 64 << 20
    file: int = 1 << 30


@dataclass
class Run:
    """What one run told; `lost` if its supervisor did not live to tell anything."""

    messages: list[Message] = field(default_factory=list)
    ending: str = "it ended the process that watches it"
    forged: int = 0
    output: str = ""
    lost: bool = True

    @property
    def complete(self) -> bool:
        """Whether every test that was found has run."""
        return any(message["complete"] for message in self.of_kind("end"))

    def of_kind(self, kind: str) -> list[Message]:
        return [message for message in self.messages if message["kind"] == kind]


@dataclass
class DayRun:
    """How each test ended, as (outcome, why), and everything that was noticed."""

    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    findings: list[Message] = field(default_factory=list)


def run(room: Room, session: dict[str, Any], limits: Limits, writes_bytecode: bool = False) -> Run:
    """Runs one session under a supervisor, in a room that has been tidied."""
    job = {
        "command": [sys.executable, "-s", "-P", "-m", "tiny_llm_kit.course.grading.graded"],
        "folder": str(room.course),
        "environment": room.environment(writes_bytecode),
        "limits": vars(limits),
        "session": session,
    }
    path = room.folder / "job.json"
    path.write_text(json.dumps(job), encoding="utf-8")
    kit = Path(tiny_llm_kit.__file__).parents[1]
    own = {name: value for name, value in room.environment(True).items() if name != "HOME"} | {"PYTHONPATH": str(kit)}
    command = [sys.executable, "-s", "-P", "-m", "tiny_llm_kit.course.grading.supervisor", str(path)]
    exit_code, output = processes.run(command, kit, own, start=_start_watched)
    with contextlib.suppress(ValueError):
        if exit_code == 0:  # or an answer has killed the supervisor, and may have spoken in its place
            return Run(**json.loads(output), lost=False)
    return Run(output=output)


def _start_watched(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> processes.Process:
    process = processes.start_group(command, cwd, env)
    threading.Thread(target=_end_if_stopped, args=(psutil.Process(process.pid),), daemon=True).start()
    return process


def _end_if_stopped(supervisor: psutil.Process) -> None:
    """An answer can stop (SIGSTOP) the process that watches it, which then would wait forever."""
    with contextlib.suppress(psutil.NoSuchProcess):
        while supervisor.status() != psutil.STATUS_ZOMBIE:
            if supervisor.status() == psutil.STATUS_STOPPED:
                for process in [*supervisor.children(recursive=True), supervisor]:
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
            time.sleep(LOOK_SECONDS)


def collect(room: Room, reference: Path, days: Sequence[Day], limits: Limits) -> list[str]:
    """The tests of the days, found with the reference. This also leaves bytecode of the tests, which saves later runs time.

    Raises:
        RuntimeError: if there is none, with what pytest said.
    """
    room.renew_home()
    session = {"tests": [day.tests for day in days], "solution": "ref", "path": str(reference)}
    done = run(room, session, limits, writes_bytecode=True)
    tests = [message["test"] for message in done.of_kind("item")]
    if not tests or not done.complete:
        raise RuntimeError(f"the tests could not be collected: {done.ending}\n{done.output}")
    return tests


def run_day(room: Room, day: Day, tests: list[str], session: dict[str, Any], limits: Limits) -> DayRun:
    """Runs the tests of a day: in one process, if none of them ends it."""
    result, broken = DayRun(), Counter[int]()
    waiting = [list(tests)]
    while waiting:
        wanted = waiting.pop()
        changed = room.tidy()
        done = run(room, {**session, "tests": [day.tests], "wanted": wanted}, limits)
        _note(result, done, changed)
        before = len(result.outcomes)
        broken.update(_take(result, done))
        left = [test for test in wanted if test not in result.outcomes]
        if done.lost and len({task_number(test) for test in left}) > 1:  # one task is to blame: each gets a run of its own
            waiting += [
                [test for test in left if task_number(test) == number] for number in {task_number(test) for test in left}
            ]
            continue
        if done.complete or len(result.outcomes) == before:
            result.outcomes |= {test: ("failed", _explain(test, done)) for test in left}
            continue
        tired = {number for number, count in broken.items() if count >= ENOUGH}
        given_up = f"not run: {ENOUGH} other tests of this task did not end, or ended the process"
        result.outcomes |= {test: ("failed", given_up) for test in left if task_number(test) in tired}
        if again := [test for test in left if task_number(test) not in tired]:
            waiting.append(again)
    return result


def _take(result: DayRun, done: Run) -> Counter[int]:
    """Enters how tests ended, and counts by task those that did not end, or ended the run."""
    begun = [message["test"] for message in done.of_kind("begin")]
    outcomes = dict.fromkeys(begun, ("failed", f"{done.ending}{_last_words(done)}"))
    outcomes |= {message["test"]: (message["outcome"], message["why"]) for message in done.of_kind("result")}
    result.outcomes |= outcomes
    broken = {test for test, (_, why) in outcomes.items() if why.startswith("DidNotEnd")}
    if not done.complete:
        broken.update(begun[-1:])
    return Counter(map(task_number, broken))


def _note(result: DayRun, done: Run, changed: list[str]) -> None:
    result.findings += [message for message in done.messages if message["kind"] in ("unfair", "notice")]
    if done.forged:
        text = "writes to the pipe by which the tests report"
        result.findings.append({"kind": "notice", "text": text, "place": "", "test": None, "tasks": []})
    if changed:
        text = f"has changed {', '.join(changed[:3])} on disk, which was put back"
        result.findings.append({"kind": "notice", "text": text, "place": "", "test": None, "tasks": []})


def _explain(test: str, done: Run) -> str:
    """Why a test was never begun."""
    whys = {message["file"]: message["why"] for message in done.of_kind("uncollected")}
    why = next((why for file, why in whys.items() if test.startswith(file)), None)
    if why is None and done.of_kind("end"):
        return "this answer does not have what the test is made for" if not whys else next(iter(whys.values()))
    return why or f"before the first test, {done.ending}{_last_words(done)}"


def _last_words(done: Run) -> str:
    """What Python says when the process crashes."""
    found = re.search(r"Fatal Python error: .*|MemoryError.*", done.output)
    return f" ({found[0].strip()})" if found else ""
