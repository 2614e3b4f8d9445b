"""Commands that run in process groups of their own: one can be stopped with all that it started, and all of them with us.

Signals are handled in the main thread; commands are run in other threads if several run at once.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Protocol

GRACE_SECONDS = 2.0  # to stop what a command started in other groups: it can on SIGTERM, not on SIGKILL
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_running: "set[Process]" = set()
_starting = threading.RLock()
_ending = False


class Stopped(Exception):
    """The whole program is being stopped; no command is started any more."""


class Process(Protocol):
    """What is used of subprocess.Popen: the leader of a group."""

    pid: int

    @property
    def returncode(self) -> int | None: ...

    def poll(self) -> int | None: ...

    def communicate(self, *, timeout: float | None = None) -> tuple[str, str | None]: ...


def start_group(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Process:
    """Starts a command that is run in a session, and so in a group, of its own."""
    return subprocess.Popen(
        command,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )


def run(
    command: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    timeout: float | None = None,
    start: Callable[[Sequence[str], Path, Mapping[str, str]], Process] = start_group,
) -> tuple[int | None, str]:
    """The exit code and the output, stdout and stderr together; the code is None if it was stopped after `timeout` seconds.

    Stopped if the program is ending; see `stopped_by_signals`.
    """
    with _starting:
        if _ending:
            raise Stopped(command[0])
        process = start(command, cwd, env)
        _running.add(process)
    try:
        output, _ = process.communicate(timeout=timeout)
        _stop([process])  # only other members of its group can be left
        if _ending:
            raise Stopped(command[0])
        return process.returncode, output
    except subprocess.TimeoutExpired:
        _stop([process])
        output, _ = process.communicate()
        return None, output
    except BaseException:  # Ctrl-C does not reach the group by itself
        _stop([process])
        raise
    finally:
        _running.discard(process)


def run_in_terminal(command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> int:
    """The exit code of a command that stays in this process's group and terminal, so that it can ask for input."""
    with subprocess.Popen(command, cwd=cwd, env=env) as process:
        try:
            return process.wait()
        except BaseException as error:
            # Ctrl-C in a terminal reaches it too, and it may have something to say; no other signal does.
            if not (isinstance(error, KeyboardInterrupt) and _ends(process)):
                process.terminate()
                if not _ends(process):
                    process.kill()
            raise


def _ends(process: subprocess.Popen[bytes]) -> bool:
    """Whether it ends by itself within the grace period."""
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return True


@contextlib.contextmanager
def stopped_by_signals() -> Iterator[None]:
    """Within the block, Ctrl-C, SIGTERM and SIGHUP stop every command, and then this program: KeyboardInterrupt or SystemExit.

    A signal that this process was told to ignore (nohup) stays ignored.
    """
    global _ending

    def stop(number: int, frame: FrameType | None) -> None:
        global _ending
        with _starting:
            _ending = True
        _stop(list(_running))
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    before = {number: signal.getsignal(number) for number in ENDING}
    for number, handler in before.items():
        if handler != signal.SIG_IGN:
            signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _ending = False


@contextlib.contextmanager
def scheduled_as_batch() -> Iterator[None]:
    """MLX hands each small operation on the CPU to another thread. Where all cores are busy, Linux lets that thread push the
    first one aside at once, fifty thousand times per second; the first one of a batch job goes on for a while."""
    if not hasattr(os, "SCHED_BATCH"):  # macOS
        yield
        return
    before = os.sched_getscheduler(0), os.sched_getparam(0)
    with contextlib.suppress(PermissionError):  # in some containers; it is slower, then
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with contextlib.suppress(PermissionError):
            os.sched_setscheduler(0, *before)


@contextlib.contextmanager
def bytecode_is_kept() -> Iterator[None]:
    """Hundreds of processes import the same modules. If Python is told to write no bytecode, it compiles them each time."""
    if not sys.dont_write_bytecode:
        yield
        return
    before = os.environ.copy()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = folder
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _stop(processes: list[Process]) -> None:
    left = [process for process in processes if _send(process, signal.SIGTERM)]
    end = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < end:
        time.sleep(0.02)
        left = [process for process in left if _send(process, 0)]
    for process in left:
        _send(process, signal.SIGKILL)


def _send(leader: Process, number: int) -> bool:
    """Send a signal to a group; 0 only asks. Returns whether any process of the group is still there."""
    leader.poll()  # otherwise it would be there as a zombie
    try:
        os.killpg(leader.pid, number)
    except (ProcessLookupError, PermissionError):  # macOS: PermissionError when there are zombies alone
        return False
    return True
