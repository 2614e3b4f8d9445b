"""Python programs started as forks of a process that has imported what they import: a fifth of the time, hundreds of times.

A process that forks, see `forker`, has one fork at a time, and serves again and again until this program ends.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import IO

from tiny_llm_kit.course import forker, processes
from tiny_llm_kit.course.begun import Choice

POSSIBLE = sys.platform != "darwin"  # where MLX has loaded Metal, which does not survive a fork


@dataclass(frozen=True)
class Own:
    """What every fork has from the start, besides what tests import.

    That is the module `module` in `folder`, and the package in the folder `package` under the name `name`, if there is one. A
    fork that finds another version of the package on its path has that one; what is the same in both need not be imported.
    In the folder `root`, if there is one, pytest has begun a session with the arguments `session`, which forks go on with.
    """

    folder: Path | None = None
    module: str = ""
    package: Path | None = None
    name: str = ""
    root: Path | None = None
    session: tuple[str, ...] = ()


NOTHING = Own()

_idle: "dict[Own, list[_Forker]]" = {}


def run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    timeout: float | None = None,
    own: Own = NOTHING,
    choice: Choice | None = None,
) -> tuple[int | None, str]:
    """As `processes.run`, for a command that begins with this Python and `-m`, and finds `own` on its path.

    Where `own` has a session, `choice` says what the command does apart from beginning one.
    """
    start = partial(_Fork, own, choice) if POSSIBLE else processes.start_group
    return processes.run(command, cwd, env, timeout, start=start)


class _Fork:
    """What `processes` uses of subprocess.Popen."""

    returncode: int

    def __init__(self, own: Own, choice: Choice | None, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        idle = _idle.setdefault(own, [])
        self.forker = idle.pop() if idle else _Forker(own)
        self.output = tempfile.NamedTemporaryFile(mode="r", errors="replace")  # noqa: SIM115 (lives as long as this)
        job = {
            "arguments": command[2:],
            "choice": choice and asdict(choice),
            "folder": str(cwd),
            "environment": dict(env),
            "output": self.output.name,
        }
        with contextlib.suppress(BrokenPipeError):  # no session could begin
            self.forker.jobs.write(f"{json.dumps(job)}\n".encode())
        self.pid = int(self.forker.answers.readline() or self.forker.process.pid)

    def poll(self) -> None:
        """It is no zombie, ever."""

    def communicate(self, timeout: float | None = None) -> tuple[str, None]:
        if not select.select([self.forker.answers], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired("a fork", timeout or 0)
        last_words = ""
        if code := self.forker.answers.readline():
            self.returncode = int(code)
            _idle[self.forker.own].append(self.forker)
        else:  # the forker could not begin, or was ended from outside
            self.returncode = self.forker.process.wait() or 1
            last_words = self.forker.read_last_words()
        with self.output:
            return self.output.read() + last_words, None


class _Forker:
    """A process that forks, with nothing of this project on its path, no BLAS threads, and no warning from Transformers."""

    def __init__(self, own: Own) -> None:
        self.own = own
        self.output = tempfile.TemporaryFile(mode="w+", errors="replace")  # noqa: SIM115 (lives as long as this)
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1"}
        environment.pop("PYTHONPATH", None)
        self.process = subprocess.Popen(
            [sys.executable, "-P", forker.__file__, json.dumps(asdict(own), default=str)],
            cwd=own.root,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.output,
            bufsize=0,  # so that an answer is in the pipe, where select sees it, or has been read
            start_new_session=True,
        )
        assert self.process.stdin
        assert self.process.stdout
        self.jobs: IO[bytes] = self.process.stdin
        self.answers: IO[bytes] = self.process.stdout

    def read_last_words(self) -> str:
        """What it said itself, once it has ended: why no session could begin, for one."""
        with self.output:
            self.output.seek(0)
            return self.output.read()
