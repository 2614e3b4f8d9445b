"""`pdm run check`: everything that has to hold before a change goes in. It is for people who change the course."""

import sys
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from pathlib import Path

import click
from rich.console import Console

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course import catchers, processes
from tiny_llm_kit.course.checks import STEPS, Part, Report, parts_of
from tiny_llm_kit.course.course_map import Course, find_root, load_course

AT_A_TIME = 2  # parts of steps; a suite with the real model takes more than 1 GiB of memory
MISTAKES_AT_A_TIME = 4  # small processes, many of which wait for what their mistake keeps from happening


@click.command()
@click.option("--only", multiple=True, metavar="STEP", type=click.Choice(list(STEPS)), help="Run this step; repeatable.")
@click.option(catchers.UPDATE, "updating", is_flag=True, help=f"Note in {catchers.FILE} which test catches each mistake.")
@click.option("--list", "listing", is_flag=True, help="List the steps and stop.")
def main(only: tuple[str, ...], updating: bool, listing: bool) -> None:
    """Checks the whole course. It is for people who change it, on a clone without a learner's work in src/tiny_llm.

    The last line counts tests that ended as they should and those that did not: on the skeleton a test should fail, a
    known mistake should be caught. A step without tests counts as one test, and skipped tests count as neither.
    """
    if listing:
        for name, step in STEPS.items():
            click.echo(f"{name:<10} {step.title}")
        return
    root = find_root()
    try:
        course = load_course(root)
    except ValueError as error:
        raise BadInput(str(error)) from None
    names = [name for name in STEPS if name in only or not only]
    if updating and "mistakes" not in names:
        raise BadInput(f"{catchers.UPDATE} needs the step mistakes: add --only mistakes")
    with processes.stopped_by_signals(), processes.bytecode_is_kept(), processes.scheduled_as_batch():
        reports = _run_steps(names, root, course)
    if found := Report.sum(reports).catchers:
        _compare_catchers(root, found, updating)
    passed, failed = sum(report.passed for report in reports), sum(report.failed for report in reports)
    click.echo(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def _run_steps(names: list[str], root: Path, course: Course) -> list[Report]:
    """Runs the parts of all steps, in this order and several at a time, and prints the report of each step in turn."""
    with ThreadPoolExecutor(AT_A_TIME) as pool, ThreadPoolExecutor(MISTAKES_AT_A_TIME) as mistakes:
        try:
            begun = {name: _begin(pool, parts_of(name, root, course)) for name in names if name != "mistakes"}
            reports = []
            for name in names:
                if name == "mistakes":  # after the steps before them, which need the machine for themselves
                    begun[name] = _begin(mistakes, parts_of(name, root, course))
                reports.append(_finish(name, begun[name]))
            return reports
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
            mistakes.shutdown(wait=False, cancel_futures=True)


def _begin(pool: ThreadPoolExecutor, parts: list[Part]) -> list[Future[Report]]:
    """Begins with the last part: the first ones are the quickest, and should be what is waited for in the end."""
    return [pool.submit(part) for part in reversed(parts)][::-1]


def _finish(name: str, parts: list[Future[Report]]) -> Report:
    """Waits for the parts of a step, and prints what they give."""
    title = STEPS[name].title
    console = Console()
    with console.status(title) as status:
        for count, part in enumerate(as_completed(parts), start=1):
            part.result()  # raises at once what a part has raised
            if len(parts) > 1:
                status.update(f"{title}: {count} of {len(parts)}")
    report = Report.sum([part.result() for part in parts])
    word = "[red]failed[/]" if report.failed else "[green]ok[/]    "
    console.print(f"{word} {name:<10} {title:<56} {report.ended - report.began:7.1f} s", highlight=False, soft_wrap=True)
    for text in (report.notes, report.output if report.failed else ""):
        if text:
            click.echo(text)
    return report


def _compare_catchers(root: Path, found: dict[str, str], updating: bool) -> None:
    """Writes down which tests caught the mistakes, or says that this should be done, if they are not those noted."""
    changes = catchers.describe_changes(catchers.load_catchers(root), found)
    if changes and updating:
        catchers.write_catchers(root, found)
        click.echo(f"{catchers.FILE}: {changes}")
    elif changes:
        click.echo(f"{catchers.FILE} is behind ({changes}), which takes time: pdm run check --only mistakes {catchers.UPDATE}")


if __name__ == "__main__":
    main(prog_name="pdm run check")
