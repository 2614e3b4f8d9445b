"""Which tasks are other ones in a new version of the course, and in what.

It reads two versions as text, without the kit's own reader of the map: a newer map may hold what this version does not know.
"""

import re
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.course.backups import PACKAGE
from tiny_llm_kit.course.course_map import task_number
from tiny_llm_kit.course.functions import find_functions, split_lines
from tiny_llm_kit.course.kernel_regions import STUB

Number = tuple[int, int, int]

READ = (".md", ".metal", ".py", ".toml")
"""What the names of the files that are read end with."""

_SECTION = re.compile(r"#+ Task (\d+)\b")
_HEADING = re.compile(r"(#{1,3}) ")
_ASPECTS = ("title", "signature or docstring", "kernel's given lines", "chapter", "tests")


@dataclass(frozen=True)
class Version:
    """The files of the course, by their paths from its root, and a way to read one."""

    files: list[Path]
    read: Callable[[Path], str]


@dataclass(frozen=True)
class TaskChange:
    """`how`: what is other than it was; "new" and "gone" alone stand for the whole task."""

    number: Number
    title: str
    how: tuple[str, ...]


def find_task_changes(old: Version, new: Version) -> list[TaskChange]:
    """The tasks that differ between two versions."""
    before, after = _describe(old), _describe(new)
    changes = []
    for number in sorted(before.keys() | after.keys()):
        was, now = before.get(number), after.get(number)
        if was is None or now is None:
            title = (now or was or {})["title"]
            changes.append(TaskChange(number, title, ("gone",) if now is None else ("new",)))
        elif how := tuple(aspect for aspect in _ASPECTS if was.get(aspect) != now.get(aspect)):
            changes.append(TaskChange(number, now["title"], how))
    return changes


def describe(changes: Iterable[TaskChange]) -> Iterator[str]:
    """One line for those tasks of a day that have changed in the same way."""
    groups: dict[tuple[int, int, tuple[str, ...]], list[TaskChange]] = {}
    for change in changes:
        groups.setdefault((*change.number[:2], change.how), []).append(change)
    for (week, day, how), group in groups.items():
        tasks = ", ".join(f"{change.number[2]} ({change.title})" for change in group)
        yield f"Week {week} Day {day}, {', '.join(how)}: task{'s' * (len(group) > 1)} {tasks}"


def _describe(version: Version) -> dict[Number, dict[str, str]]:
    """For each task, the text of each aspect."""
    tasks: dict[Number, dict[str, str]] = {}
    for week in tomllib.loads(version.read(Path("course.toml"))).get("week", []):
        for day in week.get("day", []):
            for number, title in enumerate(day.get("tasks", []), start=1):
                tasks[week["number"], day["number"], number] = {"title": title}
            _add_texts(tasks, (week["number"], day["number"]), day, version)
    for marked, aspect, text in _stubs(version):
        if marked in tasks:
            tasks[marked][aspect] = tasks[marked].get(aspect, "") + text
    return tasks


def _add_texts(tasks: dict[Number, dict[str, str]], day_number: tuple[int, int], day: dict[str, Any], version: Version) -> None:
    tests, pages = Path(day.get("tests", "-")), [day.get("chapter"), *day.get("more_pages", [])]
    for path in version.files:
        found: Iterator[tuple[int, str, str]] = iter(())
        if path.suffix == ".py" and (path == tests or path.is_relative_to(tests)):
            found = _tests(version.read(path), path)
        elif path.as_posix() in pages:
            found = _sections(version.read(path))
        for number, aspect, text in found:
            if (task := tasks.get((*day_number, number))) is not None:
                task[aspect] = task.get(aspect, "") + text


def _tests(text: str, path: Path) -> Iterator[tuple[int, str, str]]:
    lines = split_lines(text)
    for function in find_functions(text, path):
        if number := task_number(function.name):
            yield number, "tests", "".join(lines[function.start : function.end])


def _sections(text: str) -> Iterator[tuple[int, str, str]]:
    """The lines under each heading `### Task N: …`, to the next heading of that kind or a higher one."""
    number, fenced = 0, False
    for line in split_lines(text):
        fenced ^= line.startswith("```")
        if not fenced and _HEADING.match(line):
            section = _SECTION.match(line)
            number = int(section[1]) if section else 0
        if number:
            yield number, "chapter", line


def _stubs(version: Version) -> Iterator[tuple[Number, str, str]]:
    for path in version.files:
        if not path.is_relative_to(PACKAGE):
            continue
        if path.suffix == ".py":
            text = version.read(path)
            lines = split_lines(text)
            for function in find_functions(text, path):
                if function.task:
                    yield function.task, "signature or docstring", "".join(lines[function.start : function.body])
        elif path.suffix == ".metal":
            lines = split_lines(version.read(path))
            given = "".join(line for line in lines if not STUB.fullmatch(line))
            for line in lines:
                if stub := STUB.fullmatch(line):
                    week, day, number = map(int, stub.groups())
                    yield (week, day, number), "kernel's given lines", given
