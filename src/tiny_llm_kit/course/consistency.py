"""Whether the course is what its map says, and whether the skeleton leads a learner to the right task."""

import re
from pathlib import Path

from tiny_llm_kit.course.course_map import REFERENCE, Course, Day, task_number
from tiny_llm_kit.course.hint_faults import SkeletonNames, find_hint_faults
from tiny_llm_kit.course.skeleton import Skeleton
from tiny_llm_kit.course.suite import TestResult

_TEST = re.compile(r"^\s*(?:async )?def (test_\w+)", re.MULTILINE)
_TASK_NAMED = re.compile(r"Week (\d+) Day (\d+), task (\d+)")


def find_contradictions(root: Path, course: Course, skeleton: Skeleton) -> list[str]:
    """One line for each thing that `course.toml` says about a ready day and the files do not bear out."""
    names = SkeletonNames(skeleton)
    return [
        line
        for day in course.ready_days
        for line in [*_contradictions(root, day, skeleton), *find_hint_faults(root, day, names)]
    ]


def _contradictions(root: Path, day: Day, skeleton: Skeleton) -> list[str]:
    paths = [*day.pages, str(day.tests), *(f"src/{REFERENCE}/{module}" for module in day.modules)]
    lines = [f"{day}: there is no {path}" for path in paths if not (root / path).exists()]
    tested = _tested_numbers(root / str(day.tests))
    for task in day.tasks:
        if task not in skeleton.tasks:
            lines.append(f"{task}: no function of the reference is marked @task({task.week}, {task.day}, {task.number})")
        if task.number not in tested:
            lines.append(f"{task}: {day.tests} has no test named {task.tests_begin}...")
    unknown = tested - {task.number for task in day.tasks}
    return lines + [f"{day}: {day.tests} tests a task {number}, which is not in the map" for number in sorted(unknown)]


def _tested_numbers(tests: Path) -> set[int]:
    files = tests.rglob("test_*.py") if tests.is_dir() else [tests] if tests.exists() else []
    names = [name for path in files for name in _TEST.findall(path.read_text(encoding="utf-8"))]
    return {number for name in names if (number := task_number(name))}


def judge_stub(result: TestResult, course: Course) -> tuple[str, str]:
    """The problem and the warning, each empty if there is none, with how a test ended on the untouched skeleton.

    Every test must fail there, and its failure must name a task of its own day or an earlier one. A test of task 3 that names
    another task is only worth a look: it may need the tasks before. A test that was skipped for lack of a C++ compiler says
    nothing.
    """
    test = f"{result.suite}::{result.name}"
    if result.lacked_compiler:
        return "", ""
    if result.outcome != "failed":
        return f"{test}: {result.outcome}, but it should fail as long as nothing is written", ""
    named = _TASK_NAMED.search(result.reason)
    if named is None:
        reason = result.reason.partition("\n")[0]
        return f"{test}: fails without naming a task, so a learner cannot tell what to do: {reason}", ""
    week, day, number = map(int, named.groups())
    own = next((found for found in course.ready_days if result.belongs_to(found)), None)
    if own is None or (week, day) > (own.week, own.number):
        return f"{test}: names {named[0]}, which comes later than {own}", ""
    expected = task_number(result.name)
    if expected and (week, day, number) != (own.week, own.number, expected):
        return "", f"{test}: fails at {named[0]}"
    return "", ""
