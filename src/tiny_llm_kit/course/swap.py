"""Changes several files as one: all of them, or none when something goes wrong on the way.

New contents are written next to the files first, so that a full disk is noticed before anything has changed.
"""

import contextlib
import fcntl
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.backups import PACKAGE, STAGED, STATE, Backup

_MARKER = STATE / "unfinished.json"


@dataclass(frozen=True)
class Change:
    """What a file held when the change was planned, and what it shall hold; None: no file. `mode` None: as it is."""

    before: bytes | None
    after: bytes | None
    mode: int | None = None


class Interrupted(OSError):
    """The change failed, and so did the way back."""


def read_or_none(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _target(root: Path, path: Path) -> Path:
    """The file itself, where `path` is a link to it. `Path.resolve` raises on a link that leads to itself, and this doesn't."""
    return Path(os.path.realpath(root / path))


def check_writable(root: Path, changes: Mapping[Path, Change]) -> None:
    """ValueError names the files and folders that may not be written: they are protected."""
    locked = []
    for path in changes:
        target = _target(root, path)
        folder = next(parent for parent in target.parents if parent.exists())
        for place in (target, folder):
            if place.exists() and not (os.access(place, os.W_OK) and place.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP)):
                locked.append(path if place == target else Path(os.path.relpath(folder, root)))
        if target.is_dir():
            raise ValueError(f"{path} is a folder, but a file of the course belongs there. Move it away first")
    if locked:
        names = "\n".join(f"  {path}" for path in dict.fromkeys(locked))
        raise ValueError(f"these are read-only:\n{names}\nAllow writing (chmod u+w) first. Nothing was changed")


@contextlib.contextmanager
def alone(root: Path) -> Iterator[None]:
    """OSError if another process is in such a block; the lock goes with its process, however that ends."""
    (root / STATE).mkdir(exist_ok=True)
    with (root / STATE / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise OSError("another `pdm run course` is changing files: wait until it has ended. Nothing was changed") from None
        yield


def swap(root: Path, changes: Mapping[Path, Change], backup: Backup) -> None:
    """Makes the changes, which are of files in `backup`.

    OSError (and whatever else interrupts): all files are as before; `Interrupted`: some are not, and the backup has them.
    """
    _clean(root)
    staged: dict[Path, Path] = {}
    done: list[Path] = []
    try:
        for path, change in changes.items():
            if change.after is not None:
                staged[path] = _stage(_target(root, path), change.after, change.mode)
        note = {"command": backup.command, "backup": backup.name}
        (root / _MARKER).write_text(json.dumps(note) + "\n", encoding="utf-8")
        for path, change in changes.items():
            target = _target(root, path)
            if read_or_none(target) != change.before:
                raise OSError(f"{path} has just been changed by another program")
            done.append(path)
            if change.after is None:
                target.unlink(missing_ok=True)
            else:
                os.replace(staged[path], target)
        (root / _MARKER).unlink()
    except BaseException:
        _go_back(root, changes, done, backup)
        raise
    finally:
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)


def _stage(target: Path, content: bytes, mode: int | None) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = _beside(target)
    try:
        staged.write_bytes(content)
        if mode is None and target.exists():
            mode = stat.S_IMODE(target.stat().st_mode)
        staged.chmod(mode or 0o644)
    except BaseException:
        staged.unlink(missing_ok=True)
        raise
    return staged


def _beside(target: Path) -> Path:
    """Always the same name, so that what a run that was killed has left is found and overwritten."""
    return target.with_name(f".{target.name}{STAGED}")


def _go_back(root: Path, changes: Mapping[Path, Change], done: list[Path], backup: Backup) -> None:
    try:
        for path in reversed(done):
            target, before = _target(root, path), changes[path].before
            if read_or_none(target) == before:
                continue
            if before is None:
                target.unlink(missing_ok=True)
            else:
                os.replace(_stage(target, before, backup.mode(path)), target)
        (root / _MARKER).unlink(missing_ok=True)
    except OSError as error:
        remedy = f"`pdm run course restore {backup.name}` brings back what was there"
        raise Interrupted(f"some files were changed and could not be changed back ({error}): {remedy}") from error


def _clean(root: Path) -> None:
    """What a run that was killed has left."""
    for path in (root / PACKAGE).rglob(f".*{STAGED}"):
        path.unlink()


def interrupted_run(root: Path) -> tuple[str, str] | None:
    """The command that was killed while it changed files, and the name of its backup; None if the last one came to its end."""
    try:
        note = json.loads((root / _MARKER).read_text(encoding="utf-8"))
        return str(note["command"]), str(note["backup"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
