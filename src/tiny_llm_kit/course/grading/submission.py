"""Finds the answer in what was handed in, and takes nothing else of it."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from tiny_llm_kit.course.course_map import LEARNER, Course

LARGEST = 50 * 2**20
_DEPTH = 4
_COMPILED = {".pyc", ".pyd", ".so", ".dylib", ".dll"}
_NO_ANSWERS = {"__pycache__", "node_modules"}


def find_package(folder: Path, course: Course) -> Path:
    """The answer package: that of a clone, the folder itself, or the one `tiny_llm` in it; ValueError for none, or several."""
    if not folder.is_dir():
        raise ValueError(f"{str(folder)!r} is not a folder: give the folder with what was handed in")
    for likely in (folder / "src" / LEARNER, folder / LEARNER, folder):
        if _is_answer(likely, course):
            return likely
    found = sorted(path for path in _folders(folder, _DEPTH) if path.name == LEARNER and _is_answer(path, course))
    if not found:
        raise ValueError(
            f"{str(folder)!r} holds no package {LEARNER!r} with files of this course: give a clone, or its src/{LEARNER}"
        )
    if len(found) > 1:
        names = ", ".join(str(path.relative_to(folder)) for path in found)
        raise ValueError(f"{str(folder)!r} holds several packages {LEARNER!r}: {names}. Give one of them")
    return found[0]


def copy_package(package: Path, target: Path) -> list[str]:
    """Copies source files, and says what was left out: links, compiled code and whatever else is no plain file.

    Raises:
        ValueError: if it is too large for an answer.
    """
    left_out: list[str] = []
    size = 0
    target.mkdir(parents=True)
    for path in _files(package):
        name = path.relative_to(package)
        if path.is_symlink() or not path.is_file() or path.suffix in _COMPILED:
            left_out.append(str(name))
            continue
        size += path.stat().st_size
        if size > LARGEST:
            raise ValueError(f"{str(package)!r} holds more than {LARGEST >> 20} MB, which is not an answer")
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target / name)
    return sorted(left_out)


def _is_answer(folder: Path, course: Course) -> bool:
    return any((folder / module).is_file() for day in course.ready_days for module in day.modules)


def _folders(folder: Path, depth: int) -> Iterator[Path]:
    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False) and entry.name not in _NO_ANSWERS and not entry.name.startswith("."):
            yield Path(entry.path)
            if depth > 1:
                yield from _folders(Path(entry.path), depth - 1)


def _files(folder: Path) -> Iterator[Path]:
    """All files, and links to folders, which are not followed."""
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(name for name in folders if name not in _NO_ANSWERS)
        links = [name for name in folders if (Path(where) / name).is_symlink()]
        yield from (Path(where) / name for name in sorted([*files, *links]))
