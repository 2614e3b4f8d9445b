"""Reads `tests/forbidden.toml`: what is no answer to a task."""

import tomllib
from pathlib import Path
from typing import Any

from tiny_llm_kit.course.altered import describe_bad_entry
from tiny_llm_kit.course.course_map import Course
from tiny_llm_kit.course.grading.operators import Forbidden

RULES = Path("tests/forbidden.toml")


def load_rules(root: Path, course: Course) -> list[Forbidden]:
    """The rules of the course at `root`; none if it has no such file. ValueError names a wrong entry."""
    path = root / RULES
    if not path.is_file():
        return []
    tasks = [f"{task.week}.{task.day}.{task.number}" for day in course.ready_days for task in day.tasks]
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))["forbidden"]
        return [_rule(entry, tasks) for entry in entries]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{RULES}: {describe_bad_entry(error)}") from None


def _rule(entry: dict[str, Any], tasks: list[str]) -> Forbidden:
    if unknown := entry.keys() - {"tasks", "calls", "imports", "reason"}:
        raise ValueError(f"an entry has {', '.join(sorted(unknown))}, which means nothing here")
    if missing := set(entry.get("tasks", ())) - set(tasks):
        raise ValueError(f"there is no task {', '.join(sorted(missing))}")
    return Forbidden(
        tuple(entry.get("tasks", tasks)), entry["reason"], tuple(entry.get("calls", ())), tuple(entry.get("imports", ()))
    )
