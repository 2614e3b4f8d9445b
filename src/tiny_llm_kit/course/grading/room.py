"""The folder in which an answer is graded: laid out once, and put in order before each run, whatever was done to it."""

import contextlib
import itertools
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "CXX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DEVELOPER_DIR", "SDKROOT")
_OF_GPUS = ("CUDA_", "NVIDIA_", "MTL_")


@dataclass
class Room:
    """`course` and `answer` in `folder` are kept as they are at the time of `remember`; each run gets a `home` of its own."""

    folder: Path
    _runs: int = 0
    _files: dict[Path, bytes] = field(default_factory=dict)

    @property
    def course(self) -> Path:
        return self.folder / "course"

    @property
    def answer(self) -> Path:
        return self.folder / "answer"

    @property
    def home(self) -> Path:
        return self.folder / f"home{self._runs}"

    def environment(self, writes_bytecode: bool) -> dict[str, str]:
        """Nothing that changes what Python or pytest does comes from outside."""
        passed_on = {name: value for name, value in os.environ.items() if name in _PASSED_ON or name.startswith(_OF_GPUS)}
        fixed = {
            "HOME": str(self.home),
            "TMPDIR": str(self.home / "tmp"),
            "PYTHONPATH": str(self.course / "src"),
            "PYTHONHASHSEED": "0",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
        }
        return passed_on | fixed | ({} if writes_bytecode else {"PYTHONDONTWRITEBYTECODE": "1"})

    def renew_home(self) -> None:
        self._runs += 1
        (self.home / "tmp").mkdir(parents=True)

    def remember(self) -> None:
        self._files = {path: path.read_bytes() for path in self._find_files()}

    def tidy(self) -> list[str]:
        """Puts every file back, and takes away what is new. Says which files of the course were changed."""
        self.end_left_over()
        self._clear()
        self.renew_home()
        there = set(self._find_files())
        for path in there - self._files.keys():
            path.unlink()
        changed = [path for path, content in self._files.items() if not _holds(path, content)]
        for path in changed:
            _write(path, self._files[path])
        return sorted(str(path.relative_to(self.course)) for path in changed if path.is_relative_to(self.course))

    def end_left_over(self) -> None:
        """Ends processes that outlived their supervisor, known by their HOME."""
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("HOME", "").startswith(f"{self.folder}/"):
                    process.kill()

    def _clear(self) -> None:
        """Takes away all but the folders that are kept, which an answer may have put a link or a file in place of."""
        kept = (self.course, self.answer)
        _ensure_folder(self.folder)
        for path in self.folder.iterdir():
            if path not in kept:
                _remove(path)
        for path in kept:
            _ensure_folder(path)

    def _find_files(self) -> Iterator[Path]:
        return itertools.chain.from_iterable(map(_files_in, (self.course, self.answer)))


def _ensure_folder(path: Path) -> None:
    if _is_link_or_file(path):
        path.unlink()
    path.mkdir(exist_ok=True)
    path.chmod(0o700)


def _files_in(folder: Path) -> Iterator[Path]:
    """Whatever is no folder. Folders are made accessible on the way."""
    for where, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(where, name)
            if _is_link_or_file(path):
                yield path
            else:
                path.chmod(0o700)


def _remove(path: Path) -> None:
    if _is_link_or_file(path):
        path.unlink()
    else:
        shutil.rmtree(path, ignore_errors=True)


def _is_link_or_file(path: Path) -> bool:
    return path.is_symlink() or (path.exists() and not path.is_dir())


def _holds(path: Path, content: bytes) -> bool:
    return path.is_file() and not path.is_symlink() and path.read_bytes() == content


def _write(path: Path, content: bytes) -> None:
    if os.path.lexists(path):
        _remove(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
