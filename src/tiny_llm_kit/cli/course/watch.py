"""`pdm run course watch`: the tests of a day, again whenever a file of the package is saved."""

import ast
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path

import click

from tiny_llm_kit.cli.course.opened import Opened, open_course, solution_option
from tiny_llm_kit.cli.course.test import choose_day, run_day
from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.course_map import Day

SUFFIXES = (".py", ".metal")
DEBOUNCE = 300
"""Milliseconds that a burst of saves may take to count as one."""

POLL = 250
"""Milliseconds between two looks at whether Ctrl-C was pressed."""


@click.command("watch")
@click.argument("week", type=int, required=False, metavar="[W")
@click.argument("day", type=int, required=False, metavar="D]")
@solution_option
def watch_command(week: int | None, day: int | None, solution: str) -> None:
    """Runs the tests of a day, and again whenever you save a file. Ctrl-C ends it.

    Without W and D, it takes the next day that is not done, and goes on to the one after when that is done.

    \b
    pdm run course watch
    pdm run course watch 2 6
    """
    from watchfiles import watch

    opened = open_course(solution)
    folder = opened.root / "src" / opened.package
    if not folder.is_dir():
        raise BadInput(f"there is no folder {folder} to watch")
    try:
        # What is saved during a run is noted, too, and comes as one set after it. The first set is empty: now it watches.
        events = watch(folder, watch_filter=_counts, debounce=DEBOUNCE, rust_timeout=POLL, yield_on_timeout=True)
        next(events)
        if _run(opened, choose_day(opened, week, day), week):
            return
        for changes in events:
            if not changes:
                continue
            changed = sorted({Path(path) for _, path in changes})
            opened.paper.line()
            names = ", ".join(path.relative_to(folder).as_posix() for path in changed[:3])
            opened.paper.line(f"{datetime.now():%H:%M:%S}  changed: {names}{' …' if len(changed) > 3 else ''}", "bold cyan")
            if not _has_mistakes(opened, changed) and _run(opened, choose_day(opened, week, day), week):
                return
    except KeyboardInterrupt:
        opened.paper.line("\nNo longer watching.")


def _counts(change: object, path: str) -> bool:
    return path.endswith(SUFFIXES) and "__pycache__" not in path and not Path(path).name.startswith(".")


def _run(opened: Opened, day: Day | None, week: int | None) -> bool:
    """Runs the day's tests; whether there is no day left to watch."""
    if day is None:
        opened.paper.line("Everything is done: there is nothing left to watch.", "green")
        return True
    run_day(opened, day)
    upcoming = choose_day(opened, None, None) if week is None else day
    if upcoming is not None and upcoming != day:
        opened.paper.line(f"On to {upcoming}. (Read {upcoming.chapter})", "green")
    opened.paper.line("Watching: save a file to run the tests again; Ctrl-C ends this.", "dim")
    return False


def _has_mistakes(opened: Opened, changed: Iterable[Path]) -> bool:
    """Says so of files that are no Python: there is no need to start any test for that."""
    found = False
    for path in changed:
        if path.suffix != ".py" or not path.is_file():
            continue
        try:
            ast.parse(path.read_bytes(), str(path))
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None)
            place = f"{path.relative_to(opened.root).as_posix()}{f':{line}' if line else ''}"
            opened.paper.line(f"✗ {place}: {type(error).__name__}: {getattr(error, 'msg', error)}", "red")
            text = (getattr(error, "text", None) or "").strip()
            opened.paper.line(text, indent=4)
            found = True
    if found:
        opened.paper.line("The tests run when that is fixed and saved.", "dim")
    return found
