"""What each command of the guide begins with: the course, the package to look at, and a paper to print on."""

import contextlib
from collections.abc import Callable, Iterator
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
from tiny_llm_kit.course.swap import interrupted_run

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
    """For the commands that look at a package, the learner's or another."""
    try:
        root = find_root()
        return Opened(root, load_course(root), solution_package(solution), Paper())
    except (ValueError, FileNotFoundError) as error:
        raise BadInput(str(error)) from None


@contextlib.contextmanager
def opened_course() -> Iterator[tuple[Path, Course]]:
    """The root and the map, for the commands that change the learner's files, or compare them with the reference's.

    In the block, ValueError ends the command with exit code 2, and OSError with 1.
    """
    try:
        root = find_root()
        if interrupted := interrupted_run(root):
            command, backup = interrupted
            click.echo(
                f"`course {command}` was interrupted while it changed files. Give it again to end it, or go back with\n"
                f"  pdm run course restore {backup}\n",
                err=True,
            )
        yield root, load_course(root)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


def solution_option(command: Command) -> Command:
    return click.option(
        "--solution", default=LEARNER, show_default=True, help="The package to look at; `ref` is the reference."
    )(command)


def day_arguments(command: Command) -> Command:
    """[W D [T]]: all optional."""
    for name, shown in (("number", "[T]]]"), ("day", "[D"), ("week", "[W")):
        command = click.argument(name, type=int, required=False, metavar=shown)(command)
    return command
