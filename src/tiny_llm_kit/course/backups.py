"""Copies of a learner's files, made before a command changes any: in `.course/backups`, one folder each, never removed.

A folder appears under its name only when it is complete.
"""

import contextlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER

STATE = Path(".course")
BACKUPS = STATE / "backups"
PACKAGE = Path("src", LEARNER)
STAGED = ".course-new"
"""What the names of contents end with that are on their way into a file."""

_MANIFEST = "backup.json"


@dataclass(frozen=True)
class Backup:
    """`files` were there, and `absent` were not, by their paths from the project's root. `versions`: see `update`."""

    folder: Path
    command: str
    time: str
    files: tuple[Path, ...]
    absent: tuple[Path, ...] = ()
    versions: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return self.folder.name

    def read(self, path: Path) -> bytes:
        return (self.folder / "files" / path).read_bytes()

    def mode(self, path: Path) -> int:
        return stat.S_IMODE((self.folder / "files" / path).stat().st_mode)


def files_of_learner(root: Path) -> Iterator[Path]:
    """All files of the learner's package, also behind links, by their paths from the project's root.

    A repository that a learner keeps in it is left to git.
    """
    seen = set()
    for folder, folders, files in os.walk(root / PACKAGE, followlinks=True):
        folders[:] = sorted(name for name in folders if name not in ("__pycache__", ".git"))
        if (real := os.path.realpath(folder)) in seen:  # a link that leads back up
            folders.clear()
            continue
        seen.add(real)
        for name in sorted(files):
            path = Path(folder, name)
            if path.is_file() and not name.endswith(STAGED):
                yield path.relative_to(root)


def create(root: Path, command: str, others: Iterable[Path] = (), versions: Iterable[str] = ()) -> Backup:
    """Copies the learner's package, and `others`, whether they exist or not. OSError if that fails; then nothing is left."""
    (root / BACKUPS).mkdir(parents=True, exist_ok=True)
    paths = [*files_of_learner(root), *others]
    files = tuple(dict.fromkeys(path for path in paths if (root / path).is_file()))
    absent = tuple(dict.fromkeys(path for path in paths if not (root / path).is_file()))
    now = datetime.now().astimezone()
    temporary = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=root / BACKUPS))
    try:
        for path in files:
            copy = temporary / "files" / path
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / path, copy)
        manifest = {
            "command": command,
            "time": now.isoformat(),
            "files": [path.as_posix() for path in files],
            "absent": [path.as_posix() for path in absent],
            "versions": list(versions),
        }
        (temporary / _MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8")
        folder = _free_name(root, f"{now:%Y-%m-%d-%H%M%S}-{command.replace(' ', '-')}")
        temporary.rename(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return _load(folder)


def _free_name(root: Path, name: str) -> Path:
    folder, number = root / BACKUPS / name, 1
    while folder.exists():
        number += 1
        folder = root / BACKUPS / f"{name}-{number}"
    return folder


def list_all(root: Path) -> list[Backup]:
    """All complete backups that can be read, the oldest first."""
    backups = []
    for folder in _folders(root):
        with contextlib.suppress(ValueError):
            backups.append(_load(folder))
    return sorted(backups, key=lambda backup: backup.time)


def list_damaged(root: Path) -> list[str]:
    """What is wrong with each of those that cannot be read."""
    faults = []
    for folder in _folders(root):
        try:
            _load(folder)
        except ValueError as error:
            faults.append(str(error))
    return faults


def find(root: Path, name: str) -> Backup:
    """The backup of that name, or whose name alone begins so. ValueError if there is not just one, or it is damaged."""
    folders = _folders(root)
    found = [folder for folder in folders if folder.name == name] or [f for f in folders if f.name.startswith(name)]
    if len(found) != 1:
        how = f"{len(found)} backups' names begin with" if found else "there is no backup"
        raise ValueError(f"{how} {name!r}: `pdm run course restore` lists their names")
    return _load(found[0])


def _folders(root: Path) -> list[Path]:
    return sorted(path.parent for path in (root / BACKUPS).glob(f"[!.]*/{_MANIFEST}"))


def _load(folder: Path) -> Backup:
    """ValueError if it is damaged."""
    try:
        table = json.loads((folder / _MANIFEST).read_text(encoding="utf-8"))
        files, absent = (tuple(map(Path, table[key])) for key in ("files", "absent"))
        return Backup(folder, table["command"], table["time"], files, absent, tuple(table["versions"]))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / _MANIFEST} is damaged: {error}. The copies are in {folder / 'files'}") from None
