"""The folder in which an answer is graded, which is the same before each run, whatever was done to it in those before."""

import contextlib
import os
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import psutil

_PASSED_ON = ("PATH", "LANG", "LC_ALL", "LC_CTYPE", "CXX", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DEVELOPER_DIR", "SDKROOT")
_TRIES = 20
"""Whoever is ended leaves children behind, which can be found only then."""
_OF_GPUS = ("CUDA_", "NVIDIA_", "MTL_")


@dataclass
class Room:
    """`folder` is kept as it is at the time of `remember`; each run gets a `home` of its own."""

    folder: Path
    _runs: int = 0
    _others: list[psutil.Process] = field(default_factory=lambda: psutil.Process().children())
    _files: dict[Path, "File"] = field(default_factory=dict)

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
        self._files = {path: File.read(path) for path in self.folder.rglob("*") if path.is_file()}

    def tidy(self) -> list[str]:
        """Lays everything out anew, whatever an answer has made of it. Says which files of the course it had changed."""
        self.end_left_over()
        changed = [path for path, file in self._files.items() if path.is_relative_to(self.course) and not file.is_at(path)]
        self.remove()
        for path, file in self._files.items():
            file.write(path)
        self.renew_home()
        return sorted(str(path.relative_to(self.course)) for path in changed)

    def remove(self) -> None:
        """Takes the folder away, with all that is in it, however deep, and locked."""
        if self.folder.is_dir() and not self.folder.is_symlink():
            subprocess.run(["chmod", "-R", "u+rwx", str(self.folder)], capture_output=True)
            subprocess.run(["rm", "-rf", str(self.folder)], capture_output=True)
        else:
            self.folder.unlink(missing_ok=True)

    def end_left_over(self) -> None:
        """Ends processes that outlived their supervisor: on Linux they are children of this one, elsewhere their HOME tells."""
        for _ in range(_TRIES):
            left = [process for process in psutil.process_iter() if self._is_left_over(process)]
            if not left:
                return
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            psutil.wait_procs(left, timeout=1)

    def _is_left_over(self, process: psutil.Process) -> bool:
        with contextlib.suppress(psutil.Error, OSError):
            if process.ppid() == os.getpid():
                return process not in self._others
            return process.environ().get("HOME", "").startswith(f"{self.folder}/")
        return False


@dataclass(frozen=True)
class File:
    """What a file holds, and since when: bytecode is good for a source of that time."""

    content: bytes
    time: int

    @classmethod
    def read(cls, path: Path) -> "File":
        return cls(path.read_bytes(), path.stat().st_mtime_ns)

    def is_at(self, path: Path) -> bool:
        with contextlib.suppress(OSError):
            return path.is_file() and path.stat().st_size == len(self.content) and path.read_bytes() == self.content
        return False

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.content)
        os.utime(path, ns=(self.time, self.time))
