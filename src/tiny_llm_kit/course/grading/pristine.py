"""The tests, the kit and the reference as the clone's commit has them, whatever has been edited since."""

import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import REFERENCE

KIT = ("course.toml", "pyproject.toml", "tests", "src/tiny_llm_kit", "src/metal_anywhere")
REFERENCE_FOLDER = f"src/{REFERENCE}"
_WITH_ANSWERS = ("tests/kit", "tests/mistakes", "tests/mutants", "tests/variants")
"""Right answers, in whole or in part, which no day's tests need."""


@dataclass(frozen=True)
class Pristine:
    """Where they are: tests and kit in `course`, the reference in `reference`.

    `edited` names files of the clone that are not as committed, and were not used; `note` says which commit was.
    """

    course: Path
    reference: Path
    edited: tuple[str, ...]
    note: str


def write_pristine(root: Path, folder: Path) -> Pristine:
    """Writes them to `folder`, from the commit of the clone at `root`; without git, as they are."""
    course, reference = folder / "course", folder / "reference"
    course.mkdir(parents=True)
    reference.mkdir()
    wanted = [*KIT, REFERENCE_FOLDER]
    edited: tuple[str, ...] = ()
    if _are_committed(root, wanted):
        archive = folder / "committed.tar"
        _git(root, "archive", "--format=tar", f"--output={archive}", "HEAD", "--", *wanted)
        with tarfile.open(archive) as tar:
            tar.extractall(course, filter="data")
        archive.unlink()
        status = _git(root, "status", "--porcelain", "--untracked-files=all", "--no-renames", "--", *wanted).splitlines()
        edited = tuple(sorted(line[3:] for line in status))
        note = f"Tests and kit are those of commit {_git(root, 'rev-parse', '--short=10', 'HEAD').strip()}."
    else:
        for name in wanted:
            _copy(root / name, course / name)
        note = "This clone has no commit that git can read. Tests and kit were taken as they are, and may have been edited."
    shutil.move(course / REFERENCE_FOLDER, reference / REFERENCE)
    for name in _WITH_ANSWERS:
        shutil.rmtree(course / name, ignore_errors=True)
    return Pristine(course, reference, edited, note)


def _are_committed(root: Path, wanted: list[str]) -> bool:
    """Whether `root` is the top of a git working tree, not a folder within another one, and a commit of it holds these."""
    try:
        top = _git(root, "rev-parse", "--show-toplevel").strip()
        there = _git(root, "ls-tree", "--name-only", "HEAD", "--", *wanted).splitlines()
        return Path(top).resolve() == root.resolve() and set(there) == set(wanted)
    except (OSError, subprocess.CalledProcessError):
        return False


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True).stdout


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target)
