"""`pdm run course hint`: the hints of a task, one more each time, from gentle to plain."""

import click

from tiny_llm_kit.cli.course.opened import Opened, day_arguments, open_course
from tiny_llm_kit.cli.course.paper import warn
from tiny_llm_kit.cli.course.test import choose_day
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import Day, Task
from tiny_llm_kit.course.sections import find_section
from tiny_llm_kit.course.state_file import read_state, write_state

FILE = "hints.json"


@click.command("hint")
@day_arguments
@click.option("--again", is_flag=True, help="Show the hints that you have had, and no new one.")
@click.option("--all", "everything", is_flag=True, help="Show all hints.")
def hint_command(week: int | None, day: int | None, number: int | None, again: bool, everything: bool) -> None:
    """Gives a hint for a task; each time one more, from gentle to plain.

    Without T, it takes the next task of the day that is not done, and without W and D the one that `next` names.

    \b
    pdm run course hint            the next task
    pdm run course hint 2 6 4      week 2 day 6 task 4
    """
    if again and everything:
        raise BadInput("--again shows the hints that you have had, --all shows all: give one of them")
    opened = open_course()
    paper = opened.paper
    chosen = _choose_task(opened, week, day, number)
    if chosen is None:
        paper.line("No task is left to do. For a hint all the same, name the task: pdm run course hint W D T")
        return
    found, task = chosen
    week, day, number = task.week, task.day, task.number
    hints = found.hints.get(number, ())
    section = find_section(opened.root, found, number)
    paper.line(str(task), "bold")
    if not hints:
        paper.line("This task has no hints. Its section in the chapter says most:")
        paper.labelled([("read", f"{section}" + (f" ({section.heading})" if section.heading else ""))], 2)
        return
    table = read_state(opened.root, FILE, warn)
    key = f"{week}.{day}.{number}"
    seen = min(table[key], len(hints)) if type(table.get(key)) is int and table[key] > 0 else 0
    if again and not seen:
        paper.line(f"You have had no hint for this task. The first one: pdm run course hint {week} {day} {number}")
        return
    now = len(hints) if everything else seen if again else min(seen + 1, len(hints))
    first = 1 if again or everything else now
    for place in range(first, now + 1):
        paper.line()
        paper.line(f"hint {place} of {len(hints)}", "cyan")
        paper.line(hints[place - 1], indent=2)
    paper.line()
    if now == len(hints):
        paper.line("That was the last hint. When you would rather see it done:")
        paper.line(f"pdm run course solution {week} {day} {number}   (with --give-up while its tests fail)", indent=2)
    else:
        paper.line(f"More: pdm run course hint {week} {day} {number}", "dim")
    if now != seen:
        write_state(opened.root, FILE, read_state(opened.root, FILE, warn) | {key: now}, warn)


def _choose_task(opened: Opened, week: int | None, day: int | None, number: int | None) -> tuple[Day, Task] | None:
    """The task that was asked for; else the next one that is not done, None if all are."""
    found = choose_day(opened, week, day)
    if found is not None and number is not None:
        return found, opened.find_task(found, number)
    standing = next((standing for standing in opened.standing.days if standing.day == found), None)
    if standing is None or standing.next_task is None:
        return None
    return standing.day, standing.next_task.task
