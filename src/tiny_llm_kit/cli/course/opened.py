"""What each command of the guide begins with: the course, the package to look at, and a paper to print on."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import click

from tiny_llm_kit.cli.course.paper import Paper, warn
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.answers import Answers, read_answers
from tiny_llm_kit.course.course_map import LEARNER, Course, Day, Task, find_root, load_course, solution_package
from tiny_llm_kit.course.results import Results
from tiny_llm_kit.course.standing import Standing, find_standing

Command = Callable[..., Any]


@dataclass(frozen=True)
class Opened:
    root: Path
    course: Course
    package: str
    paper: Paper

    @cached_property
    def results(self) -> Results:
        return Results(self.root, self.course, self.package, warn)

    @property
    def standing(self) -> Standing:
        """As of now: files and results may have changed since the last time."""
        answers: Answers = read_answers(self.root, self.package)
        return find_standing(self.course, answers, self.results)

    def find_unwritten(self, day: Day) -> list[Task]:
        """The tasks of a day of which no function is written yet."""
        answers = read_answers(self.root, self.package)
        return [task for task in day.tasks if answers.are_stubs(task)]

    def find_day(self, week: int, number: int) -> Day:
        """A day that has tests; BadInput for others."""
        try:
            return self.course.find_ready_day(week, number)
        except ValueError as error:
            raise BadInput(str(error)) from None

    def find_task(self, day: Day, number: int) -> Task:
        try:
            return self.course.find_task(day.week, day.number, number)
        except ValueError as error:
            listed = "\n".join(f"  {task.number}  {task.title}" for task in day.tasks)
            raise BadInput(f"{error}:\n\n{listed}") from None

    @property
    def option(self) -> str:
        """What to add to a command so that it means the same package."""
        return "" if self.package == LEARNER else f" --solution {'ref' if self.package.endswith('_ref') else self.package}"


def open_course(solution: str = LEARNER) -> Opened:
    try:
        root = find_root()
        return Opened(root, load_course(root), solution_package(solution), Paper())
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from None


def solution_option(command: Command) -> Command:
    return click.option(
        "--solution", default=LEARNER, show_default=True, help="The package to look at; `ref` is the reference."
    )(command)


def day_arguments(command: Command) -> Command:
    """[W D [T]]: all optional."""
    for name, shown in (("number", "[T]]]"), ("day", "[D"), ("week", "[W")):
        command = click.argument(name, type=int, required=False, metavar=shown)(command)
    return command
