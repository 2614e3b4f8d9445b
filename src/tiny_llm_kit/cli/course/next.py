"""`pdm run course next`: the task to do now, where it is explained, where it is written, and how to test it."""

import click

from tiny_llm_kit.cli.course.opened import Opened, open_course, solution_option
from tiny_llm_kit.cli.course.status import show_broken
from tiny_llm_kit.course.answers import Answer
from tiny_llm_kit.course.sections import find_section
from tiny_llm_kit.course.standing import State, TaskStanding

_REST = 10


@click.command("next")
@solution_option
def next_command(solution: str) -> None:
    """Says what to do now: the section to read, the functions to write, and the command that tests them.

    \b
    pdm run course next
    """
    opened = open_course(solution)
    standing = opened.standing
    show_broken(opened, standing)
    found = standing.next_day
    task = found.next_task if found else None
    if found is None or task is None:
        opened.paper.line("Everything is done: every task of every day. `pdm run course status` shows it.", "green")
        return
    week, day, number = task.task.week, task.task.day, task.task.number
    section = find_section(opened.root, found.day, number)
    opened.paper.line(str(task.task), "bold")
    heading = f" ({section.heading})" if section.heading else ""
    rows: list[tuple[str, str | tuple[str, ...]]] = [
        ("read", f"{section.page}:{section.line}{heading}"),
        *_places(opened, task),
        ("state", task.describe if task.state is not State.NOT_BEGUN else ""),
        ("test", f"pdm run course test {week} {day} {number}{opened.option}"),
        ("stuck?", f"pdm run course hint {week} {day} {number}" if found.day.hints.get(number) else ""),
    ]
    opened.paper.labelled(rows, 2)


def _places(opened: Opened, task: TaskStanding) -> list[tuple[str, str | tuple[str, ...]]]:
    """The functions that are to be written; when all are, those that the task is about."""
    left = [answer for answer in task.answers if answer.stub]
    shown = left or list(task.answers)
    places = [_place(opened, answer) for answer in shown]
    if len(places) > _REST:
        places = [*places[:_REST], f"… and {len(places) - _REST} more"]
    label = "write" if left else "look at"
    return [(label if i == 0 else "", place) for i, place in enumerate(places)]


def _place(opened: Opened, answer: Answer) -> str:
    path = f"src/{opened.package}/{answer.path.as_posix()}:{answer.line}"
    return path if answer.path.suffix == ".metal" else f"{answer.name}  {path}"
