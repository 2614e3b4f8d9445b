"""Grades the answer in a folder: lays out the room, runs the days, and turns what came of it into points."""

import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from metal_anywhere.errors import NO_CLANG, NO_COMPILER, NoCompiler
from metal_anywhere.toolchain import find_compiler
from tiny_llm_kit.course.course_map import LEARNER, REFERENCE, Course, Day, Task, load_course, task_number
from tiny_llm_kit.course.grading.answers import find_answers, find_tasks_of_files
from tiny_llm_kit.course.grading.channel import Message
from tiny_llm_kit.course.grading.points import DayGrade, Failure, Grade, TaskGrade
from tiny_llm_kit.course.grading.pristine import Pristine, write_pristine
from tiny_llm_kit.course.grading.room import Room
from tiny_llm_kit.course.grading.rules import load_rules
from tiny_llm_kit.course.grading.runs import DayRun, Limits, collect, run_day
from tiny_llm_kit.course.grading.similarity import describe_similarity
from tiny_llm_kit.course.grading.submission import copy_package
from tiny_llm_kit.course.grading.supervisor import adopt_orphans


class Progress(Protocol):
    """Is told how far the grade is, in tests, and of each day that is graded."""

    def begin(self, day: Day, done: int, total: int) -> None: ...

    def end(self, graded: DayGrade) -> None: ...


def grade(root: Path, package: Path, days: Sequence[Day], limits: Limits, progress: Progress) -> Grade:
    """Grades `package` with the tests of the clone at `root`.

    Raises:
        ValueError: if the package is too large, or the clone's list of forbidden operators is wrong.
        RuntimeError: if the clone's own tests cannot be collected.
    """
    room = Room(Path(tempfile.mkdtemp(prefix="grade-")).resolve())
    adopt_orphans()
    try:
        pristine = write_pristine(root, room.folder)
        left_out = copy_package(package, room.answer / LEARNER)
        grading = _Grading(room, pristine, load_course(pristine.course), limits)
        return grading.run(days, _remarks(pristine, left_out), progress)
    finally:
        room.end_left_over()
        adopt_orphans(False)
        room.remove()


class _Grading:
    def __init__(self, room: Room, pristine: Pristine, course: Course, limits: Limits) -> None:
        self.room = room
        self.reference = pristine.reference
        self.limits = limits
        self.rules = load_rules(pristine.course, course)
        self.answers = find_answers(pristine.reference / REFERENCE)
        self.tasks_of_files = find_tasks_of_files(pristine.reference / REFERENCE)
        self.no_compiler = _find_no_compiler()

    def run(self, days: Sequence[Day], remarks: list[str], progress: Progress) -> Grade:
        tests = collect(self.room, self.reference, days, self.limits)
        keys = {f"{task.week}.{task.day}.{task.number}" for day in days for task in day.tasks}
        alike = describe_similarity(self.room.answer / LEARNER, self.reference / REFERENCE, keys)
        shutil.rmtree(self.reference)  # so that no answer finds it
        self.room.remember()
        result, done = Grade([], remarks, alike), 0
        for day in days:
            progress.begin(day, done, len(tests))
            own = [test for test in tests if _belongs(test, day)]
            graded, notices = self._grade_day(day, own)
            result.days.append(graded)
            result.notices = list(dict.fromkeys([*result.notices, *notices]))
            done += len(own)
            progress.end(graded)
        return result

    def _grade_day(self, day: Day, tests: list[str]) -> tuple[DayGrade, list[str]]:
        name = f"{day.week}.{day.number}"
        ran = run_day(self.room, day, tests, self._session(name), self.limits)
        tasks = {task.number: self._grade_task(task, tests, ran) for task in day.tasks}
        notices = []
        for found in ran.findings:
            text = self._tidy(": ".join(filter(None, [found["place"], found["text"]])))
            blamed = self._blamed(found, day) if found["kind"] == "unfair" else []
            for number in blamed:
                if text not in tasks[number].unfair:
                    tasks[number].unfair.append(text)
            if found["kind"] == "notice":
                where = f" (tests of task {name}.{task_number(found['test'])})" if found["test"] else ""
                notices.append(f"{text}{where}")
        return DayGrade(day, list(tasks.values())), notices

    def _session(self, day: str) -> dict[str, Any]:
        answers: dict[str, list[str]] = {}
        for answer in self.answers:
            if answer.task.rpartition(".")[0] == day:
                answers.setdefault(answer.task, []).append(answer.place)
        rules = [vars(rule) for rule in self.rules if any(task.rpartition(".")[0] == day for task in rule.tasks)]
        return {
            "day": day,
            "answers": answers,
            "rules": rules,
            "seconds": self.limits.seconds,
            "solution": LEARNER,
            "path": str(self.room.answer),
        }

    def _grade_task(self, task: Task, tests: list[str], ran: DayRun) -> TaskGrade:
        graded = TaskGrade(task, 0)
        for test in tests:
            if task_number(test) == task.number:
                graded.tests += 1
                outcome, why = ran.outcomes[test]
                if outcome == "skipped" and why.startswith((NO_COMPILER, NO_CLANG)) and self.no_compiler:
                    graded.not_graded = self.no_compiler
                if outcome == "passed":
                    graded.passed += 1
                else:
                    graded.failures.append(Failure(test.rpartition("::")[2], self._shorten(why, outcome)))
        return graded

    def _blamed(self, found: Message, day: Day) -> list[int]:
        """The tasks that an unfair act costs: that of its test, those it names, those of its file, or all of the day."""
        if found["test"]:
            numbers = {task_number(found["test"])}
        else:
            file = found["place"].rpartition(":")[0].partition("/")[2]
            of_file = self.tasks_of_files.get(file)
            keys = found["tasks"] or (of_file if of_file is not None else None)
            if keys is None:
                return [task.number for task in day.tasks]
            start = f"{day.week}.{day.number}."
            numbers = {int(key.removeprefix(start)) for key in keys if key.startswith(start)}
        return [task.number for task in day.tasks if task.number in numbers]

    def _shorten(self, why: str, outcome: str) -> str:
        line = " ".join(self._tidy(why).split())
        if why.startswith(("DidNotEnd: this", "Failed: this had not ended")):  # where it was then is chance
            line = f"this had not ended after {self.limits.seconds:g} s"
        return (line or ("the answer skips it" if outcome == "skipped" else "it ended before its end"))[:300]

    def _tidy(self, text: str) -> str:
        """Without what differs from one run to the next, and what no file can hold."""
        text = _writable(text)
        text = text.replace(f"{self.room.course}/", "").replace(f"{self.room.answer}/", "").replace(str(self.room.folder), "…")
        text = re.sub(r"0x[0-9a-f]{6,}", "0x…", text)
        return re.sub(r"\b(127\.0\.0\.1|localhost):\d+", r"\1:…", text)


def _belongs(test: str, day: Day) -> bool:
    folder = (day.tests or "").rstrip("/")
    return test.startswith((f"{folder}/", f"{folder}::"))


def _find_no_compiler() -> str:
    """Why Metal kernels cannot run here, as this process sees it: an answer may say so for other reasons."""
    try:
        find_compiler("grade")
    except NoCompiler as error:
        return str(error.problem)
    return ""


def _remarks(pristine: Pristine, left_out: list[str]) -> list[str]:
    remarks = [pristine.note]
    if pristine.edited:
        remarks.append(f"Not as committed in this clone, and not used: {', '.join(pristine.edited)}.")
    if left_out:
        remarks.append(f"Left out of what was handed in, since they are no source files: {', '.join(left_out)}.")
    return [_writable(remark) for remark in remarks]


def _writable(text: str) -> str:
    """Stray surrogates, which may be in names of files and in messages of errors, cannot be written."""
    return text.encode(errors="backslashreplace").decode()
