"""What the commands share that change a learner's files: which course, how errors end, and what they say of their backups."""

import contextlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiny_llm_kit.cli.errors import BadInput
from tiny_llm_kit.course.backups import Backup
from tiny_llm_kit.course.course_map import Course, Task, find_root, load_course
from tiny_llm_kit.course.swap import interrupted_run

if TYPE_CHECKING:
    from tiny_llm_kit.course.answer_files import Part


@contextlib.contextmanager
def opened_course() -> Iterator[tuple[Path, Course]]:
    """The root and the map. In the block, ValueError ends the command with exit code 2, and OSError with 1."""
    try:
        root = find_root()
        if interrupted := interrupted_run(root):
            command, backup = interrupted
            click.echo(
                f"`course {command}` was interrupted while it changed files. Give it again to end it, or go back with\n"
                f"  pdm run course restore {backup}\n",
                err=True,
            )
        yield root, load_course(root)
    except ValueError as error:
        raise BadInput(str(error)) from None
    except OSError as error:
        raise click.ClickException(str(error)) from None


def count(things: Collection[object], what: str = "file") -> str:
    """1 file, 2 files."""
    return f"{len(things)} {what}{'s' * (len(things) != 1)}"


def tell_backup(root: Path, backup: Backup) -> None:
    click.echo(f"before that, your files were copied to {backup.folder.relative_to(root)}")
    click.echo(f"to go back: pdm run course restore {backup.name}")


def tell_parts(parts: Iterable["Part"], by_day: bool = False) -> None:
    """One line for each task, or each day: its functions."""
    groups: dict[str, list[str]] = {}
    for part in sorted(parts, key=lambda part: (part.task.week, part.task.day, part.task.number)):
        title = f"Week {part.task.week} Day {part.task.day}" if by_day else _short(part.task)
        groups.setdefault(title, []).append(f"{part.path.name}" if part.path.suffix == ".metal" else part.name)
    for title, names in groups.items():
        click.echo(f"  {title}: {count(names, 'function') if by_day else ', '.join(names)}")


def tell_rebound(places: Collection[str]) -> None:
    if places:
        click.echo("but these lines further down give the function another meaning, and stay. Take them out:")
    for place in places:
        click.echo(f"  {place}")


def _short(task: Task) -> str:
    return f"Week {task.week} Day {task.day}, task {task.number}"
