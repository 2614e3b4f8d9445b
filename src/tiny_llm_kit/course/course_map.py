"""The map of the course: reads `course.toml`, the one place that says which weeks, days, tasks and tests there are.

It knows the names of chapters and tests, not what is in them; `pdm run check` compares the two.
"""

import importlib.util
import inspect
import itertools
import re
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

Answer = TypeVar("Answer", bound=Callable[..., Any])

LEARNER = "tiny_llm"
REFERENCE = "tiny_llm_ref"

_TASK_OF_TEST = re.compile(r"(?:^|::)test_task_(\d+)_")
_TASK_AND_PART = re.compile(r"test_task_(\d+)_([^_[]+)")


def task(week: int, day: int, number: int) -> Callable[[Answer], Answer]:
    """Marks a function or method as the answer to a task of `course.toml`: the skeleton is made without its body.

    The function itself is returned, with `__task__ = (week, day, number)`.
    """

    def mark(answer: Answer) -> Answer:
        if not inspect.isfunction(answer):
            raise TypeError(f"@task marks a function or method, not {answer!r}: put it right above its def")
        vars(answer)["__task__"] = (week, day, number)
        return answer

    return mark


def task_number(test: str) -> int:
    """Of the task that a test belongs to, by its name or its node id; 0 if it names none."""
    found = _TASK_OF_TEST.search(test)
    return int(found[1]) if found else 0


@dataclass(frozen=True)
class Task:
    week: int
    day: int
    number: int
    title: str

    @property
    def tests_begin(self) -> str:
        """What the names of its tests begin with."""
        return f"test_task_{self.number}_"

    def __str__(self) -> str:
        return f"Week {self.week} Day {self.day}, task {self.number}: {self.title}"


@dataclass(frozen=True)
class Day:
    """One day. `chapter` and `tests` are paths from the project's root, `modules` from that of an answer package.

    A chapter of several pages begins with `chapter` and goes on with `more_pages`, in the order in which they are read.
    `order` holds the numbers of the tasks in the order in which they are worked on, and `parts`, for a task that has them,
    those of its tests: "plan" stands for the tests named `test_task_4_plan_...`. `needs` holds week and number of the days that
    it builds on. `hints` holds, by the number of a task, what helps a learner who is stuck: from gentle to plain.
    """

    week: int
    number: int
    title: str
    chapter: str
    tests: str | None
    modules: tuple[str, ...]
    tasks: tuple[Task, ...]
    order: tuple[int, ...] = ()
    parts: dict[int, tuple[str, ...]] = field(default_factory=dict, hash=False)
    needs: tuple[tuple[int, int], ...] = ()
    more_pages: tuple[str, ...] = ()
    hints: dict[int, tuple[str, ...]] = field(default_factory=dict, hash=False)

    @property
    def pages(self) -> tuple[str, ...]:
        """All pages of its chapter, in order."""
        return self.chapter, *self.more_pages

    def place_of(self, test: str) -> tuple[int, int]:
        """Where the test of that name comes in the working order, as a sort key; one that names no task comes last."""
        found = _TASK_AND_PART.match(test)
        if not found or int(found[1]) not in self.order:
            return len(self.order), 0
        number, parts = int(found[1]), self.parts.get(int(found[1]), ())
        return self.order.index(number), parts.index(found[2]) if found[2] in parts else len(parts)

    @property
    def planned(self) -> bool:
        """Whether the day is only announced: it has no tests yet."""
        return self.tests is None

    def __str__(self) -> str:
        return f"Week {self.week} Day {self.number}: {self.title}"


@dataclass(frozen=True)
class Week:
    number: int
    title: str
    days: tuple[Day, ...]


@dataclass(frozen=True)
class Course:
    weeks: tuple[Week, ...]

    @property
    def days(self) -> list[Day]:
        return [day for week in self.weeks for day in week.days]

    @property
    def ready_days(self) -> list[Day]:
        return [day for day in self.days if not day.planned]

    def find_day(self, week: int, day: int) -> Day:
        """The day of that number; ValueError, with the table of what there is, when there is none."""
        for candidate in self.days:
            if (candidate.week, candidate.number) == (week, day):
                return candidate
        raise ValueError(f"there is no week {week} day {day}. The course has:\n\n{self.table()}")

    def find_ready_day(self, week: int, day: int) -> Day:
        """The day of that number; ValueError as in `find_day`, and for one that is planned only."""
        found = self.find_day(week, day)
        if found.planned:
            raise ValueError(f"{found} is planned: it has no tests yet. The course has:\n\n{self.table()}")
        return found

    def find_task(self, week: int, day: int, number: int) -> Task:
        """The task of that number; ValueError when the day or the task does not exist."""
        found = self.find_day(week, day)
        for candidate in found.tasks:
            if candidate.number == number:
                return candidate
        raise ValueError(f"{found} has no task {number}: course.toml names {len(found.tasks)}")

    def table(self) -> str:
        rows = [f"{day.week:>4} {day.number:>4}  {day.title}{'  (planned)' * day.planned}" for day in self.days]
        return "\n".join(["week  day  title", *rows])


def find_root(start: Path = Path(__file__)) -> Path:
    """The project's root: the nearest folder above `start` that holds course.toml."""
    for folder in start.resolve().parents:
        if (folder / "course.toml").is_file():
            return folder
    raise FileNotFoundError(f"no course.toml in any folder above {start}: run this in a clone of tiny-llm")


def solution_package(name: str) -> str:
    """The answer package that `--solution NAME` means: `ref` for the reference, or a package that can be imported.

    ValueError if there is none, or if it has none of the files that course.toml names. It is not imported for that.
    """
    package = REFERENCE if name == "ref" else name
    there = [short for short, full in {"ref": REFERENCE, LEARNER: LEARNER}.items() if importlib.util.find_spec(full)]
    remedy = f"give {' or '.join([*there, 'a package in src'])}"
    try:
        spec = importlib.util.find_spec(package) if package.isidentifier() else None
    except ValueError:  # __main__ is a module without a spec
        spec = None
    if spec is None:
        raise ValueError(f"there is no package {package!r}: {remedy}")
    files = [file for day in load_course(find_root()).ready_days for file in day.modules]
    if not any((Path(folder) / file).is_file() for folder in spec.submodule_search_locations or [] for file in files):
        raise ValueError(
            f"{package} is not an answer to this course, since it has no {files[0]}, nor any other of its files: {remedy}"
        )
    return package


def load_course(root: Path) -> Course:
    """Reads and checks `root/course.toml`; ValueError says which entry is wrong and how."""
    path = root / "course.toml"
    try:
        return _parse(path.read_text(encoding="utf-8"))
    except ValueError as error:  # tomllib's syntax errors are ValueErrors too
        raise ValueError(f"{path}: {error}") from None


@lru_cache(maxsize=1)  # a run of the tests needs it more than once
def _parse(text: str) -> Course:
    table = tomllib.loads(text)
    _check_keys(table, "the file", {"week": list})
    weeks = tuple(_week(entry) for entry in table["week"])
    _check_ascending([week.number for week in weeks], "weeks")
    _check_needs(weeks)
    return Course(weeks)


def _week(table: dict[str, Any]) -> Week:
    _check_keys(table, f"week {table.get('number', '?')}", {"number": int, "title": str, "day": list})
    number = table["number"]
    days = tuple(_day(number, entry) for entry in table["day"])
    _check_ascending([day.number for day in days], f"the days of week {number}")
    return Week(number, table["title"], days)


def _day(week: int, table: dict[str, Any]) -> Day:
    where = f"week {week} day {table.get('number', '?')}"
    always: dict[str, type] = {"number": int, "title": str}
    when_ready: dict[str, type] = {"chapter": str, "modules": list, "tasks": list}
    working: dict[str, type] = {"order": list, "parts": dict, "needs": list, "more_pages": list, "hints": dict}
    if "tests" in table:
        _check_keys(table, where, {**always, **when_ready, "tests": str}, working)
    else:
        _check_keys(table, where, always, when_ready | working)
    modules, titles, more_pages = (table.get(key, []) for key in ("modules", "tasks", "more_pages"))
    if not all(isinstance(text, str) for text in [*modules, *titles, *more_pages]):
        raise ValueError(f"{where}: `modules`, `tasks` and `more_pages` are lists of strings")
    if "tests" in table and not titles:
        raise ValueError(f"{where} has tests but no tasks")
    number = table["number"]
    tasks = tuple(Task(week, number, i, title) for i, title in enumerate(titles, start=1))
    numbers = [task.number for task in tasks]
    order = table.get("order", numbers)
    parts, hints = (_texts_by_task(table, key, where, numbers) for key in ("parts", "hints"))
    if sorted(map(repr, order)) != sorted(map(repr, numbers)):
        raise ValueError(f"{where}: `order` is {order}, but should hold each of {numbers} once")
    return Day(
        week,
        number,
        table["title"],
        table.get("chapter", ""),
        table.get("tests"),
        tuple(modules),
        tasks,
        tuple(order),
        parts,
        _needs(table.get("needs", []), where),
        tuple(more_pages),
        hints,
    )


def _needs(names: list[Any], where: str) -> tuple[tuple[int, int], ...]:
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"\d+\.\d+", name):
            raise ValueError(f'{where}: `needs` holds {name!r}, but should name days as "week.day", such as "1.3"')
    return tuple((int(week), int(day)) for week, day in (name.split(".") for name in names))


def _check_needs(weeks: Sequence[Week]) -> None:
    """A day can build only on days that come before it."""
    earlier: set[tuple[int, int]] = set()
    for day in (day for week in weeks for day in week.days):
        if missing := [f"{week}.{number}" for week, number in day.needs if (week, number) not in earlier]:
            raise ValueError(f"week {day.week} day {day.number}: `needs` names {', '.join(missing)}, which is no earlier day")
        earlier.add((day.week, day.number))


def _texts_by_task(table: dict[str, Any], key: str, where: str, numbers: list[int]) -> dict[int, tuple[str, ...]]:
    """`parts` or `hints`: for the numbers of some tasks a list of texts each."""
    for number, texts in table.get(key, {}).items():
        if number not in map(str, numbers) or not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ValueError(
                f"{where}: `{key}.{number}` is {texts!r}, but should be a list of texts for one of the tasks {numbers}"
            )
    return {int(number): tuple(texts) for number, texts in table.get(key, {}).items()}


def _check_keys(table: dict[str, Any], where: str, required: dict[str, type], optional: dict[str, type] | None = None) -> None:
    allowed = required | (optional or {})
    if missing := required.keys() - table.keys():
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := table.keys() - allowed.keys():
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which means nothing here")
    for key, value in table.items():
        if type(value) is not allowed[key]:
            raise ValueError(f"{where}: `{key}` is {value!r}, but should be of type {allowed[key].__name__}")


def _check_ascending(numbers: list[int], what: str) -> None:
    if any(later <= earlier for earlier, later in itertools.pairwise(numbers)):
        raise ValueError(f"{what} are numbered {numbers}: each should be above the one before")
