"""Copies of the reference that are changed a little, to see what the tests say about them."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.course_map import REFERENCE


@dataclass(frozen=True)
class Edit:
    """Replaces `find`, which `file` (a path from the root of the package) holds exactly `count` times."""

    file: str
    find: str
    replace: str
    count: int = 1

    def apply(self, package: Path) -> None:
        """Edit the file; ValueError if it does not hold `find` that many times."""
        path = package / self.file
        if not path.is_file():
            raise ValueError(f"the reference has no {self.file}")
        text = path.read_text(encoding="utf-8")
        if text.count(self.find) != self.count:
            raise ValueError(f"{self.file} holds {self.find!r} {text.count(self.find)} times, not {self.count}")
        overwrite(path, text.replace(self.find, self.replace).encode())


def check_syntax(path: Path) -> None:
    """ValueError if this is a Python file that cannot be compiled: any suite would fail on it, and that would prove nothing."""
    if path.suffix == ".py":
        try:
            compile(path.read_bytes(), path.name, "exec")
        except SyntaxError as error:
            raise ValueError(f"{path.name} is not Python any more: {error}") from None


def describe_bad_entry(error: Exception) -> str:
    """What is wrong with the entry of a TOML file whose fields were looked up: a KeyError alone would only name the field."""
    return f"lacks {error}" if isinstance(error, KeyError) else str(error)


@contextmanager
def copied_reference(root: Path, name: str) -> Iterator[Path]:
    """The folder of a package `name` that holds what the reference holds, until the end of the block.

    Its bytecode is copied, too: compiling a hundred files takes a quarter of the time of a short suite. Where that is possible,
    all of it is linked, so change a file with `overwrite`.
    """
    reference = root / "src" / REFERENCE
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / name
        shutil.copytree(reference, package, copy_function=_link)
        elsewhere = _bytecode_of(package)
        if elsewhere != package and _bytecode_of(reference).is_dir():
            shutil.copytree(_bytecode_of(reference), elsewhere, copy_function=_link)
        yield package
        if elsewhere != package:
            shutil.rmtree(elsewhere, ignore_errors=True)


def _link(source: str, target: str) -> None:
    """Hundreds of files are copied thousands of times."""
    try:
        os.link(source, target)
    except OSError:  # on another file system, say
        shutil.copy2(source, target)


def overwrite(path: Path, content: bytes) -> None:
    """Write a file of such a copy, and forget its bytecode, which a file of the same size and second would be mistaken for."""
    path.unlink()  # or the reference would change, too
    path.write_bytes(content)
    for compiled in (
        *path.parent.glob(f"__pycache__/{path.stem}.*.pyc"),
        *_bytecode_of(path.parent).glob(f"{path.stem}.*.pyc"),
    ):
        compiled.unlink()


def _bytecode_of(folder: Path) -> Path:
    """Where Python keeps the bytecode of the files in a folder, if it has been told a place of its own; else the folder."""
    prefix = os.environ.get("PYTHONPYCACHEPREFIX")
    return Path(prefix, *folder.resolve().parts[1:]) if prefix else folder
