"""Python programs started as forks of a process that has imported what they import: a fifth of the time, hundreds of times.

A process that forks, see `forker`, has one fork at a time, and serves again and again until this program ends.
"""

import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tiny_llm_kit.course import forker, processes

POSSIBLE = sys.platform != "darwin"  # where MLX has loaded Metal, which does not survive a fork


@dataclass(frozen=True)
class Own:
    """What every fork has from the start, besides what tests import.

    That is the module `module` in `folder`, and the package in the folder `package` under the name `name`, if there is one. A
    fork that finds another version of the package on its path has that one; what is the same in both need not be imported.
    """

    folder: Path
    module: str
    package: Path | None = None
    name: str = ""


_idle: "dict[Own | None, list[_Forker]]" = {}


def run(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], timeout: float | None = None, own: Own | None = None
) -> tuple[int | None, str]:
    """As `processes.run`, for a command that begins with this Python and `-m`, and finds `own` on its path."""
    return processes.run(command, cwd, env, timeout, start=partial(_Fork, own) if POSSIBLE else processes.start_group)


class _Fork:
    """What `processes` uses of subprocess.Popen."""

    returncode: int

    def __init__(self, own: Own | None, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        idle = _idle.setdefault(own, [])
        self.forker = idle.pop() if idle else _Forker(own)
        self.output = tempfile.NamedTemporaryFile(mode="r", errors="replace")  # noqa: SIM115 (lives as long as this)
        job = {"arguments": command[2:], "folder": str(cwd), "environment": dict(env), "output": self.output.name}
        self.forker.jobs.write(f"{json.dumps(job)}\n".encode())
        self.pid = int(self.forker.answers.readline())

    def poll(self) -> None:
        """It is no zombie, ever."""

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        if not select.select([self.forker.answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        if code := self.forker.answers.readline():
            self.returncode = int(code)
            _idle[self.forker.own].append(self.forker)
        else:  # the forker was ended from outside
            self.returncode = self.forker.process.wait() or 1
        with self.output:
            return self.output.read(), None


class _Forker:
    """A process that forks, with nothing of this project on its path, no BLAS threads, and no warning from Transformers."""

    def __init__(self, own: Own | None) -> None:
        self.own = own
        arguments: list[str | Path] = [own.folder, own.module] if own else []
        arguments += [own.package, own.name] if own and own.package else []
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [sys.executable, "-P", forker.__file__, *map(str, arguments)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,  # so that an answer is in the pipe, where select sees it, or has been read
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.jobs: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout
