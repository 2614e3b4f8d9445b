"""A grade as others read it. Nothing in it depends on the time, so two grades of one answer are the same, byte by byte."""

import base64
import json
from typing import Any

from tiny_llm_kit.course.grading.points import POINTS, Grade, TaskGrade

_MOST_REASONS = 10
_FEW_REASONS = 3
"""The reporter of GitHub Classroom reads an environment variable, which may hold 128 KB."""


def to_json(grade: Grade) -> str:
    """Everything there is to know."""
    return _dump(
        {
            "points": grade.points,
            "max_points": grade.max_points,
            "days": [
                {
                    "week": found.day.week,
                    "day": found.day.number,
                    "title": found.day.title,
                    "tasks": [_task(task) for task in found.tasks],
                }
                for found in grade.days
            ],
            "remarks": grade.remarks,
            "notices": grade.notices,
        }
    )


def to_gradescope(grade: Grade) -> str:
    """The `results.json` of a Gradescope autograder. A task that is not graded has no score, so it counts neither way."""
    return _dump(
        {
            "score": grade.points,
            "output": "\n".join(_about(grade)),
            "output_format": "text",
            "stdout_visibility": "hidden",
            "tests": [_gradescope_test(task) for task in grade.tasks],
        }
    )


def to_github_classroom(grade: Grade) -> str:
    """The result that a step hands to GitHub Classroom's autograding reporter: JSON in base64, one line."""
    tests = [_classroom_test(task) for task in grade.tasks if task.points is not None]
    done = all(test["status"] == "pass" for test in tests)
    result = {"version": 1, "status": "pass" if done else "fail", "max_score": grade.max_points, "tests": tests}
    return f"{base64.b64encode(json.dumps(result).encode()).decode()}\n"


FORMATS = {"json": to_json, "gradescope": to_gradescope, "github-classroom": to_github_classroom}


def explain(task: TaskGrade, most: int = _MOST_REASONS) -> list[str]:
    """Why a task has not all its points: nothing, if it has."""
    lines = [f"No points: {reason}" for reason in task.unfair]
    if task.not_graded:
        lines.append(f"Not graded: {task.not_graded}")
    by_reason: dict[str, list[str]] = {}
    for failure in task.failures:
        by_reason.setdefault(failure.why, []).append(failure.test)
    lines += [f"{tests[0]}{_and_others(tests)}: {why}" for why, tests in list(by_reason.items())[:most]]
    more = sum(len(tests) for tests in list(by_reason.values())[most:])
    return [*lines, f"and {more} more"] if more > 0 else lines


def _and_others(tests: list[str]) -> str:
    return f" and {len(tests) - 1} more" if len(tests) > 1 else ""


def _task(task: TaskGrade) -> dict[str, Any]:
    return {
        "task": task.task.number,
        "title": task.task.title,
        "points": task.points,
        "max_points": POINTS,
        "tests": task.tests,
        "passed": task.passed,
        "unfair": sorted(task.unfair),
        "not_graded": task.not_graded or None,
        "failures": [vars(failure) for failure in task.failures],
    }


def _gradescope_test(task: TaskGrade) -> dict[str, Any]:
    test: dict[str, Any] = {
        "number": task.key,
        "name": str(task.task),
        "name_format": "text",
        "output": "\n".join([f"{task.passed} of {task.tests} tests passed.", *explain(task)]),
        "output_format": "text",
        "visibility": "visible",
    }
    if task.points is not None:
        test |= {"score": task.points, "max_score": POINTS, "status": "passed" if task.points == POINTS else "failed"}
    return test


def _classroom_test(task: TaskGrade) -> dict[str, Any]:
    return {
        "name": str(task.task),
        "status": "pass" if task.points == POINTS else "fail",
        "score": task.points,
        "message": "\n".join(explain(task, _FEW_REASONS)),
        "test_code": f"pdm run test --week {task.task.week} --day {task.task.day} -k task_{task.task.number}",
        "filename": "",
        "line_no": 0,
        "execution_time": "0ms",
    }


def _about(grade: Grade) -> list[str]:
    missing = [task.key for task in grade.tasks if task.points is None]
    ungraded = [f"Not graded on this machine: task {', '.join(missing)}."] if missing else []
    return [f"{grade.points:g} of {grade.max_points} points.", *ungraded, *grade.remarks]


def _dump(value: dict[str, Any]) -> str:
    return f"{json.dumps(value, indent=2, ensure_ascii=False)}\n"
