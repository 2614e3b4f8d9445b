"""`pdm run course hint`: the hints of a task, one more each time, from gentle to plain."""

import click

from tiny_llm_kit.cli.course.opened import open_course
from tiny_llm_kit.cli.course.paper import warn
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.sections import find_section
from tiny_llm_kit.course.state_file import read_state, write_state

FILE = "hints.json"


@click.command("hint")
@click.argument("week", type=int, metavar="W")
@click.argument("day", type=int, metavar="D")
@click.argument("number", type=int, metavar="T")
@click.option("--again", is_flag=True, help="Show the hints that you have had, and no new one.")
@click.option("--all", "everything", is_flag=True, help="Show all hints.")
def hint_command(week: int, day: int, number: int, again: bool, everything: bool) -> None:
    """Gives a hint for task T of day D in week W; each time one more, from gentle to plain.

    \b
    pdm run course hint 2 6 4
    """
    if again and everything:
        raise BadInput("--again shows the hints that you have had, --all shows all: give one of them")
    opened = open_course()
    found = opened.find_day(week, day)
    task = opened.find_task(found, number)
    hints = found.hints.get(number, ())
    section = find_section(opened.root, found, number)
    paper = opened.paper
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
