"""`pdm run test`: the tests of a day, or of a week, on the learner's package or another."""

import sys
import tempfile
from pathlib import Path

import click

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course import session
from tiny_llm_kit.course.course_map import LEARNER, Course, Day, find_root, load_course, solution_package
from tiny_llm_kit.course.processes import run_in_terminal, stopped_by_signals


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--week", type=int, help="The week. Alone, it runs all days of the week that are ready.")
@click.option("--day", type=int, help="The day of that week.")
@click.option("--solution", default=LEARNER, show_default=True, help="The package to test; `ref` is the reference.")
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def main(week: int | None, day: int | None, solution: str, pytest_arguments: tuple[str, ...]) -> None:
    """Runs the tests of one day: --week 2 --day 6.

    Options that are not listed below go to pytest: `-k task_3` runs the tests of task 3, `-x` stops at the first failure.
    """
    root = find_root()
    try:
        days = _chosen_days(load_course(root), week, day)
        solution_package(solution)
    except ValueError as error:
        raise BadInput(str(error)) from None
    for chosen in days:
        click.echo(f"{chosen}   (read {', '.join(chosen.pages)})")
    tests = [chosen.tests for chosen in days if chosen.tests]
    sys.exit(_run(root, [*tests, "--solution", solution, "--tb=short", *pytest_arguments]))


def _run(root: Path, arguments: list[str]) -> int:
    """pytest's exit code; it runs in a process of its own, since an answer that ends its process must not pass."""
    with tempfile.TemporaryDirectory() as folder:
        note = Path(folder) / "note"
        with stopped_by_signals():
            run_in_terminal([*session.command(note), *arguments], root, session.environment(root))
        ending = session.read_ending(note)
    if ending.exit_code is None:
        raise click.ClickException(ending.explain())
    return ending.exit_code


def _chosen_days(course: Course, week: int | None, day: int | None) -> list[Day]:
    if week is None:
        raise ValueError(f"which day? Give --week and --day. The course has:\n\n{course.table()}")
    if day is None:
        ready = [found for found in course.ready_days if found.week == week]
        if not ready:
            raise ValueError(f"week {week} has no day that can be run. The course has:\n\n{course.table()}")
        return ready
    return [course.find_ready_day(week, day)]


if __name__ == "__main__":
    main(prog_name="pdm run test")
