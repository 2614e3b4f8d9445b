"""`pdm run mutants`: how many small slips in a day's answers its tests notice. It is for people who write tests."""

import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.cli.progress import Bar, progress_bar, working
from tiny_llm_kit.course import processes
from tiny_llm_kit.course.course_map import Course, Day, find_root, load_course
from tiny_llm_kit.course.mutants import Killers, KnownMutants, Result, Tally, load_known, run_mutant, run_original
from tiny_llm_kit.course.mutation import Mutant, find_mutants

WANTED = 0.95
"""Share of the mutants that are not equivalent."""

LONGEST = 600.0
"""Seconds for the suite on the reference."""

SILENCE = 30.0
"""Seconds between progress lines if there is no terminal: all mutants of a day take hours."""


@click.command()
@click.option("--week", type=int, help="The week; without it, the whole course.")
@click.option("--day", type=int, help="The day of that week; without it, all its days.")
@click.option("--task", type=int, help="Mutants of this task's answers only. They face the whole suite of the day.")
@click.option(
    "--sample", type=click.IntRange(min=1), help="This many mutants per day, drawn at random; without it, all of them."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Which mutants a sample draws.")
@click.option("--workers", type=click.IntRange(min=1), default=2, show_default=True, help="Suites that run at a time.")
@click.option("--verbose", "-v", is_flag=True, help="Print those that were killed, too, and by which test.")
@click.option("--list", "listing", is_flag=True, help="List the mutants and stop.")
def main(
    week: int | None,
    day: int | None,
    task: int | None,
    sample: int | None,
    seed: int,
    workers: int,
    verbose: bool,
    listing: bool,
) -> None:
    """Runs the tests of a day on mutants: copies of the reference with one small slip each in the Python code of its answers.

    A mutant is killed if a test fails, or if the suite does not end. Each survivor is printed when it is found: it shows what
    the tests do not check, unless it is as good as the original; tests/mutants is then the place to say so, and why.

    The exit code is 0 if 95 % or more of each day's mutants that are not equivalent are killed. A day takes minutes, and the
    whole course an hour or more. Ctrl-C prints how far it got.
    """
    root = find_root()
    console = Console()
    tallies: dict[Day, Tally] = {}
    try:
        course = load_course(root)
        with processes.stopped_by_signals(), processes.bytecode_is_kept(), processes.scheduled_as_batch():
            for found in _days(course, week, day, task):
                known = load_known(root, found)
                chosen, tallies[found] = _choose(root, course, found, known, task, sample, seed)
                if listing:
                    _list(chosen, tallies[found])
                elif chosen:
                    _run_all(console, root, found, chosen, known, tallies[found], workers, verbose)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except KeyboardInterrupt:
        click.echo("Interrupted; so far:")
        _sum_up(tallies)
        sys.exit(130)
    if not listing:
        _sum_up(tallies)
        sys.exit(0 if all(tally.share >= WANTED for tally in tallies.values()) else 1)


def _days(course: Course, week: int | None, day: int | None, task: int | None) -> list[Day]:
    if day is None:
        if task is not None:
            raise ValueError("--task is a task of one day: give --week and --day")
        if not (found := [other for other in course.ready_days if week in (None, other.week)]):
            raise ValueError(f"week {week} has no day that can be run. The course has:\n\n{course.table()}")
        return found
    if week is None:
        raise ValueError(f"--day {day} of which week? Give --week, too")
    chosen = course.find_ready_day(week, day)
    if task is not None:
        course.find_task(week, day, task)
    return [chosen]


def _choose(
    root: Path, course: Course, day: Day, known: KnownMutants, task: int | None, sample: int | None, seed: int
) -> tuple[list[Mutant], Tally]:
    """The mutants to run, and a tally that knows how many of those that were drawn are equivalent."""
    mutants = find_mutants(root, course, day)
    for entry in known.find_stale(mutants):
        click.echo(f"stale, describes no mutant: {entry}")
    mutants = [mutant for mutant in mutants if task in (None, mutant.task.number)]
    if not mutants:
        raise ValueError(f"there is nothing to mutate in the Python code of {day}")
    if sample is not None:
        drawn = set(random.Random(seed).sample(range(len(mutants)), min(sample, len(mutants))))
        mutants = [mutant for number, mutant in enumerate(mutants) if number in drawn]
    chosen = [mutant for mutant in mutants if not known.is_equivalent(mutant)]
    return chosen, Tally(len(mutants) - len(chosen))


def _list(mutants: list[Mutant], tally: Tally) -> None:
    for mutant in mutants:
        click.echo(str(mutant))
    click.echo(f"{len(mutants)} mutants besides {tally.equivalent} that are known to be equivalent")


def _sum_up(tallies: dict[Day, Tally]) -> None:
    for day, tally in tallies.items():
        click.echo(f"{day}: {tally}")


def _run_all(
    console: Console,
    root: Path,
    day: Day,
    mutants: list[Mutant],
    known: KnownMutants,
    tally: Tally,
    workers: int,
    verbose: bool,
) -> None:
    began = time.perf_counter()
    with working(console, f"{day}: the suite on the reference", SILENCE):
        run_original(root, day, LONGEST)
    seconds = _limit(time.perf_counter() - began, workers)
    killers = Killers()

    def run_one(mutant: Mutant) -> Result:
        return run_mutant(root, day, mutant, seconds, killers.of(mutant))

    with ThreadPoolExecutor(workers) as pool, progress_bar(console, f"{day}: mutants", len(mutants), SILENCE) as bar:
        futures = [pool.submit(run_one, mutant) for mutant in mutants]
        try:
            for future in as_completed(futures):
                result = future.result()
                killers.add(result)
                tally.add(result)
                bar.advance()
                bar.describe(f"mutants, {tally.survived} survived")
                _report(result, known.reason_to_survive(result.mutant), bar, verbose)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _limit(seconds: float, workers: int) -> float:
    """Seconds for a mutant, if the reference took this many and had the machine to itself."""
    return 60 + 2 * workers * seconds


def _report(result: Result, reason: str, bar: Bar, verbose: bool) -> None:
    if not result.killed:
        bar.print(f"survived: {result.mutant}{reason and f' ({reason})'}")
    elif verbose or result.hung:
        bar.print(f"killed, {result.detail}: {result.mutant}")


if __name__ == "__main__":
    main(prog_name="pdm run mutants")
