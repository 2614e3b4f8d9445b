"""`pdm run course status`: weeks, days and tasks, how far each is, and what is next."""

import sys

import click
from rich.console import RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tiny_llm_kit.cli.course.opened import Opened, open_course, solution_option
from tiny_llm_kit.cli.course.paper import Paper
from tiny_llm_kit.course.course_map import Week
from tiny_llm_kit.course.standing import DayStanding, Standing, State

_STYLES = {
    State.PASSES: ("✓", "green"),
    State.SKIPPED: ("✓", "yellow"),
    State.GIVEN: ("✓", "cyan"),
    State.FAILS: ("✗", "red"),
    State.CHANGED: ("~", "yellow"),
    State.UNTESTED: ("~", "yellow"),
    State.BEGUN: ("~", "yellow"),
    State.NOT_BEGUN: (" ", "dim"),
}


@click.command("status")
@solution_option
@click.option("--all", "everything", is_flag=True, help="Show the tasks of all days, not only of those that you are at.")
@click.option("--run", "run_first", is_flag=True, help="Run all tests first. That takes minutes.")
def status_command(solution: str, everything: bool, run_first: bool) -> None:
    """Shows how far you are, and what is next.

    No test is run for it, unless you ask: it knows the last result of each test, and whether you have changed something since.

    \b
    pdm run course status
    pdm run course status --run
    """
    opened = open_course(solution)
    if run_first:
        from tiny_llm_kit.cli.course.test import INTERRUPTED, run_day

        try:
            for day in opened.course.ready_days:
                run_day(opened, day, brief=True)
        except KeyboardInterrupt:  # what has come out until then is remembered
            sys.exit(INTERRUPTED)
        opened.paper.line()
    standing = opened.standing
    for week in opened.course.weeks:
        show_week(opened, week, standing, everything)
    show_broken(opened, standing)
    _show_next(opened, standing)


def show_week(opened: Opened, week: Week, standing: Standing, everything: bool) -> None:
    paper = opened.paper
    days = {found.day.number: found for found in standing.days if found.day.week == week.number}
    done, total = sum(day.done for day in days.values()), sum(len(day.tasks) for day in days.values())
    paper.line(f"Week {week.number}: {week.title} ({done} of {total} tasks)", "bold")
    for day in week.days:
        found = days.get(day.number)
        if found is None:
            _show_row(paper, f"Day {day.number}", day.title, "", "planned")
            continue
        bar = ProgressBar(max(len(found.tasks), 1), found.done, width=10)
        _show_row(paper, f"Day {day.number}", day.title, bar, f"{found.done} of {len(found.tasks)}")
        if everything or found is standing.next_day or (found.is_begun and not found.is_done):
            _show_tasks(paper, found)
    paper.line()


def _show_row(paper: Paper, name: str, title: str, bar: RenderableType, told: str) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for width in (5, min(48, paper.console.width - 32), 10, 8):
        table.add_column(width=width)
    table.add_row(name, Text(paper.plain(title)), bar, told)
    paper.show(table, 2)


def _show_tasks(paper: Paper, found: DayStanding) -> None:
    table = Table.grid(padding=(0, 2, 0, 0))
    for options in ({"no_wrap": True}, {"max_width": paper.console.width - 42}, {}):
        table.add_column(**options)
    for standing in found.tasks:
        mark, style = _STYLES[standing.state]
        title = Text(paper.plain(standing.task.title))
        table.add_row(Text(paper.plain(f"{mark} task {standing.task.number}"), style), title, Text(standing.describe, style))
    paper.show(table, 9)


def show_broken(opened: Opened, standing: Standing) -> None:
    """Files that cannot be read: no test can run before they are fixed."""
    for reason in standing.broken.values():
        opened.paper.line(f"✗ {reason}", "red")


def _show_next(opened: Opened, standing: Standing) -> None:
    found = standing.next_day
    task = found.next_task if found else None
    if found is None or task is None:
        opened.paper.line("Everything is done.", "green")
        return
    opened.paper.line(f"Next: {task.task}", "bold")
    opened.paper.line(f"pdm run course next{opened.option} says where and how.", indent=2)
