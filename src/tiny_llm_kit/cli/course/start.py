"""`pdm run course start`: begins at any day, with the reference's answers to all days before it."""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiny_llm_kit.cli.course.common import tell_backup, tell_parts, tell_rebound
from tiny_llm_kit.cli.course.opened import opened_course
from tiny_llm_kit.course.course_map import LEARNER, Course, Day

if TYPE_CHECKING:
    from tiny_llm_kit.course.answer_files import Part


@click.command()
@click.argument("week", type=int)
@click.argument("day", type=int)
@click.option("--replace", is_flag=True, help="Also put the reference in the place of what you wrote for those days.")
def start(week: int, day: int, replace: bool) -> None:
    """Begins at a day: fills in the reference's answers to all earlier days.

    What you have written stays, of earlier days too, unless you give --replace. Comments alone are no answer: a stub with notes
    of yours is filled in. Nothing of the day itself or of later ones is touched. The tests of what stays among new answers are
    run. All of src/tiny_llm is copied first, and `pdm run course restore` brings it back.

    Example: pdm run course start 2 6
    """
    from tiny_llm_kit.course.workspace import carry_out, plan_start

    with opened_course() as (root, course):
        found = course.find_ready_day(week, day)
        plan = plan_start(root, course, found, replace)
        backup = carry_out(root, plan.changes, f"start {week} {day}") if plan.changes else None
        if backup:
            click.echo(f"src/{LEARNER} has the reference's answers to:")
            tell_parts(plan.placed, by_day=True)
            tell_rebound(plan.rebound)
        else:
            click.echo(f"nothing to fill in: {'all earlier days are written' if plan.days else 'no day is earlier'}")
        if plan.kept:
            click.echo("kept, since you have written it (--replace takes the reference's):")
            tell_parts(plan.kept)
        if backup:
            tell_backup(root, backup)
            _check(root, course, plan.kept, found)
        click.echo(f"\n{found}\nread {', '.join(found.pages)}, then: pdm run test --week {week} --day {day}")


def _check(root: Path, course: Course, kept: Sequence["Part"], day: Day) -> None:
    """Says whether what a learner wrote is fit to build on: it is now among answers of another hand."""
    from rich.console import Console

    from tiny_llm_kit.cli.progress import working
    from tiny_llm_kit.course.processes import stopped_by_signals
    from tiny_llm_kit.course.task_tests import run_task_tests

    wrong = []
    tasks = sorted({part.task for part in kept}, key=lambda task: (task.week, task.day, task.number))
    for (week, number), group in itertools.groupby(tasks, key=lambda task: (task.week, task.day)):
        with stopped_by_signals(), working(Console(), f"trying what you wrote for week {week} day {number}"):
            wrong += [outcome.task for outcome in run_task_tests(root, course, group) if outcome.went_wrong]
    for task in wrong:
        click.echo(f"its tests fail: {task}")
    if wrong:
        click.echo(f"fix it, or: pdm run course start {day.week} {day.number} --replace")
