"""`pdm run course test`: the tests of a day or a task, told so that one can go on from there."""

import sys

import click

from tiny_llm_kit.cli.course.failure_view import show_failures
from tiny_llm_kit.cli.course.opened import Opened, day_arguments, open_course, solution_option
from tiny_llm_kit.cli.course.task_bars import TaskBars, result_table
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import Day
from tiny_llm_kit.course.guided_run import TIMEOUT, Run, run_tests
from tiny_llm_kit.course.results import fingerprint

INTERRUPTED = 130


@click.command("test")
@day_arguments
@solution_option
@click.option("-v", "--verbose", is_flag=True, help="Show everything: pytest's own output, and each failure in full.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first failure.")
@click.option("--timeout", type=click.FloatRange(min=1), help="Seconds after which a test is stopped (default: 50).")
def test_command(
    week: int | None,
    day: int | None,
    number: int | None,
    solution: str,
    verbose: bool,
    exitfirst: bool,
    timeout: float | None,
) -> None:
    """Runs the tests of a day, or of one task, and says of each failure what was called, what came back and what was expected.

    Without W and D, it takes the next day that is not done.

    \b
    pdm run course test            the next day
    pdm run course test 2 6        week 2 day 6
    pdm run course test 2 6 4      task 4 of that day
    """
    opened = open_course(solution)
    chosen = choose_day(opened, week, day)
    if chosen is None:
        opened.paper.line(f"All days are done. Again: pdm run course test 1 1{opened.option}")
        return
    if number is not None:
        opened.find_task(chosen, number)
    try:
        sys.exit(run_day(opened, chosen, number, verbose, exitfirst, timeout))
    except KeyboardInterrupt:  # it has said so
        sys.exit(INTERRUPTED)


def choose_day(opened: Opened, week: int | None, day: int | None) -> Day | None:
    """The day that was asked for; else the next one that is not done, None if all are."""
    if week is None:
        upcoming = opened.standing.next_day
        return upcoming.day if upcoming else None
    if day is None:
        raise BadInput(f"which day of week {week}? Give W and D. The course has:\n\n{opened.course.table()}")
    return opened.find_day(week, day)


def run_day(
    opened: Opened,
    day: Day,
    number: int | None = None,
    verbose: bool = False,
    exitfirst: bool = False,
    timeout: float | None = None,
    brief: bool = False,
) -> int:
    """Runs, tells and remembers; 0 if all tests passed. `brief` tells the result of each task, and no failures.

    Raises:
        KeyboardInterrupt: after telling and remembering what was known when Ctrl-C came.
    """
    paper, run = opened.paper, Run()
    paper.line(str(day), "bold")
    arguments = [*(["-k", f"test_task_{number}_"] if number else []), *(["-x"] if exitfirst else [])]
    arguments += ["-vv", "--tb=short"] if verbose else ["-q", "--tb=short"]
    arguments += [f"--timeout={timeout}"] if timeout else []
    arguments += [] if verbose else [f"--unwritten={','.join(task.tests_begin for task in opened.find_unwritten(day))}"]
    before = fingerprint(opened.root, opened.course, day, opened.package)
    interrupted = False
    try:
        with TaskBars(paper, day, quiet=verbose) as bars:
            run_tests(opened.root, run, [str(day.tests)], opened.package, bars, arguments, verbose, timeout or TIMEOUT)
    except KeyboardInterrupt:
        interrupted = True
    if not run.uses and not run.unimportable:
        opened.results.record(day, run, before)
    if not run.tests and not run.unimportable and not interrupted:
        paper.line(f"✗ no test of {day} could be found, and pytest said:", "red")
        paper.line("\n".join(run.output.splitlines()[-20:]), indent=2)
    if run.tests:
        paper.show(result_table(paper, day, run))
    if not brief:
        show_failures(opened, day, run, verbose)
        _show_end(opened, day, number, run)
    lost = len(run.tests) - len(run.results) - len(run.left_out)
    if lost and not interrupted and not exitfirst:
        paper.line(f"✗ The tests were ended before {lost} of them had run: does the answer raise KeyboardInterrupt?", "red")
    if interrupted:
        told = f"{len(run.results)} of {len(run.tests)} tests were run" if run.tests else "no test had begun"
        paper.line(f"Interrupted: {told}.", "yellow")
        raise KeyboardInterrupt
    return 0 if run.passed else 1


def _show_end(opened: Opened, day: Day, number: int | None, run: Run) -> None:
    reasons = dict.fromkeys(
        result.reason.removeprefix("Skipped: ") for result in run.results.values() if result.outcome == "skipped"
    )
    for reason in list(reasons)[:3]:
        opened.paper.line(f"skipped: {reason}", "yellow")
    if run.passed:
        opened.paper.line()
        what = f"Task {number}" if number else f"Week {day.week} Day {day.number}"
        opened.paper.line(f"✓ {what} passes. What comes next: pdm run course next{opened.option}", "green")
