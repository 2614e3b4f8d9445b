"""Files that programs write: checked before the work begins, and either complete or not there at all when it is done."""

import contextlib
import errno
import json
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from tiny_llm_kit.cli.text import harmless

Write = Callable[[Path], object]
"""Writes a file at the path it is given."""


class OutFile(click.ParamType):
    """A file that can be written; what is there stays until the program writes."""

    name = "file"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return self._checked(Path(value), Path(value), param, ctx)

    def _checked(self, path: Path, file: Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        try:
            check_writable(file)
        except ValueError as error:
            self.fail(harmless(str(error)), param, ctx)
        return path


class OutFolder(OutFile):
    """A folder, existing or not, in which files can be written."""

    name = "folder"

    def convert(self, value: str | Path, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        return self._checked(Path(value), Path(value) / "results.json", param, ctx)


def check_writable(path: Path) -> None:
    """Tries what writing `path` will need, and leaves everything as it was.

    Raises:
        ValueError: if it cannot be written, saying why.
    """
    try:
        if file := next((parent for parent in path.parents if parent.is_file()), None):
            raise ValueError(f"cannot write {str(path)!r}, because {str(file)!r} is a file: choose another place")
        with _folders(path.parent, keep=False):
            if path.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if path.exists() and not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            if not _is_device(path):
                with _beside(path) as temporary:
                    temporary.touch()
    except OSError as error:
        raise ValueError(f"cannot write {str(path)!r} ({error.strerror}): choose another place") from None


def check_apart(files: Mapping[str, Path | None]) -> None:
    """ValueError if two of the files, by the names of their options, are the same one: writing one would destroy the other."""
    seen: dict[str, str] = {}
    for option, path in files.items():
        if path is None or _is_device(path):
            continue
        other = seen.setdefault(os.path.realpath(path), option)
        if other != option:
            raise ValueError(f"{other} and {option} are the same file, {str(path)!r}: give each its own")


def write_file(path: Path, write: Write) -> None:
    """Writes next to `path` and then puts the file in its place, so no reader ever finds a part of it.

    What cannot be written there, say because the disk is now full, goes to a temporary folder: it may be an hour's work.

    Raises:
        click.ClickException: naming the file and the other place; exit code 1.
    """
    try:
        with _folders(path.parent, keep=True):
            if _is_device(path):
                write(path)
                return
            with _beside(path) as temporary:
                write(temporary)
                temporary.replace(os.path.realpath(path))  # a link stays one
    except OSError as error:
        rescued = Path(tempfile.mkdtemp(prefix="tiny-llm-")) / path.name
        write(rescued)
        message = f"cannot write {str(path)!r} ({error.strerror}): written to {str(rescued)!r} instead"
        raise click.ClickException(message) from None


def write_text(path: Path, text: str) -> None:
    """As UTF-8; stray surrogates, which names of files may hold, as \\udXXX, which JSON reads as the original."""
    write_file(path, lambda file: file.write_text(text, encoding="utf-8", errors="backslashreplace"))


def write_json(path: Path, document: dict[str, Any]) -> None:
    write_text(path, json.dumps(document, indent=2, ensure_ascii=False) + "\n")


def write_results(
    console: Console, out: Path, name: str, document: dict[str, Any], text: str, draw: Write | None = None
) -> None:
    """Writes `document` as JSON, `text` as Markdown and what `draw` draws as PNG, all named after `name` and the time.

    Later runs leave what earlier ones wrote, even within the same second.
    """
    stem = _free_stem(out, f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}")
    write_json(stem.with_suffix(".json"), document)
    write_text(stem.with_suffix(".md"), f"{text}\n")
    if draw:
        write_file(stem.with_suffix(".png"), draw)
    written = f"Written: {stem}.json, .md and .png" if draw else f"Written: {stem}.json and .md"
    console.print(harmless(written), markup=False, highlight=False, soft_wrap=True)


def _free_stem(out: Path, name: str) -> Path:
    names = (name if number == 1 else f"{name}-{number}" for number in range(1, 1000))
    return next(out / candidate for candidate in names if not (out / f"{candidate}.json").exists())


def _is_device(path: Path) -> bool:
    """/dev/stdout, say, or a pipe: written directly, since putting a file in its place would destroy it."""
    return os.path.exists(path) and not os.path.isfile(path)  # no error if the name is too long


@contextlib.contextmanager
def _folders(folder: Path, keep: bool) -> Iterator[None]:
    """The folder is there within the block; without `keep`, those that were not are removed afterwards."""
    missing = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for parent in [] if keep else missing:
            with contextlib.suppress(OSError):  # another program has put something there meanwhile
                parent.rmdir()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[Path]:
    """A name of its own in the folder of the file that `path` leads to; what is there at the end is removed."""
    temporary = Path(os.path.realpath(path)).with_name(f".tiny-llm-{secrets.token_hex(8)}{path.suffix[:8]}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
