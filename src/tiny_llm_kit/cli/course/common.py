"""What the commands say that change a learner's files: of their backups, and of the functions that they put in place."""

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tiny_llm_kit.course.backups import Backup
from tiny_llm_kit.course.course_map import Task

if TYPE_CHECKING:
    from tiny_llm_kit.course.answer_files import Part


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
