"""Runs one command with limits, and ends all that it started, whatever it did to get away.

`python -m tiny_llm_kit.course.grading.supervisor JOB` prints one JSON object: the signed messages that the command sent, how it
ended, and the end of its output. It is a process of its own, so that it can become the parent of what the answer leaves behind
(on Linux), and of nothing else.
"""

import contextlib
import ctypes
import json
import os
import resource
import secrets
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import psutil

from tiny_llm_kit.course.grading.channel import Receiver

EVERY = 0.1
"""Seconds between two looks at the processes."""

PATIENCE = 10
"""A test may take its seconds this many times, if it computes little: others may keep the machine busy. See endless.py."""

IDLE = 0.002
"""Share of one core. Whoever computes less waits for what never comes."""

START_SECONDS = 60.0
"""Time without any test: imports, and the collection of the tests."""

GRACE = 10.0
"""Seconds more than twice a test's own, in which pytest should have stopped it; see tests/endless.py."""

KEPT_OUTPUT = 4000
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHILD_SUBREAPER, _DEATH_SIGNAL = 36, 1  # of prctl(2)


class Supervisor:
    """`limits`: seconds per test, bytes of memory, of output and of a file, and the number of processes."""

    def __init__(self, job: dict[str, Any]) -> None:
        self.job = job
        self.limits: dict[str, float] = job["limits"]
        secret = secrets.token_bytes(32)
        self.receiver = Receiver(secret)
        self.output, self.written = b"", 0
        self.over = ""
        results, sending = os.pipe()
        self.process = subprocess.Popen(
            job["command"],
            cwd=job["folder"],
            env=job["environment"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[sending],
            start_new_session=True,
            preexec_fn=lambda: _limit(int(self.limits["file"])),
        )
        os.close(sending)
        assert self.process.stdin
        with contextlib.suppress(BrokenPipeError), self.process.stdin as stdin:
            stdin.write(json.dumps({"secret": secret.hex(), "descriptor": sending, **job["session"]}).encode())
        self.results = os.fdopen(results, "rb", buffering=0)
        self.begun = time.monotonic()
        self.computed: float | None = None

    def run(self) -> dict[str, Any]:
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ, self._take_output)
            selector.register(self.results, selectors.EVENT_READ, self._take_results)
            look = time.monotonic()
            while self.process.poll() is None and not self.over:
                self._read(selector, EVERY)
                if time.monotonic() > look + EVERY:
                    self.over = self._find_excess()
                    look = time.monotonic()
            end_descendants(self.process.pid)
            while selector.get_map() and self._read(selector, 0.0):
                pass
        code = self.process.wait()
        return {
            "messages": self.receiver.messages,
            "forged": self.receiver.forged,
            "ending": self.over or _describe(code),
            "output": self.output.decode(errors="replace"),
        }

    def _read(self, selector: selectors.BaseSelector, wait: float) -> bool:
        """Whether there was anything to read."""
        ready = selector.select(wait)
        for key, _ in ready:
            piece = os.read(key.fd, 1 << 16)
            if piece:
                key.data(piece)
            else:
                selector.unregister(key.fileobj)
        return bool(ready)

    def _take_output(self, piece: bytes) -> None:
        self.written += len(piece)
        self.output = (self.output + piece)[-KEPT_OUTPUT:]

    def _take_results(self, piece: bytes) -> None:
        before = len(self.receiver.messages)
        self.receiver.feed(piece)
        if len(self.receiver.messages) > before:
            self.begun, self.computed = time.monotonic(), None

    def _find_excess(self) -> str:
        """Which limit is passed, in words; "" if none is."""
        if self.written > self.limits["output"]:
            return f"it printed more than {self.limits['output'] / 2**20:g} MB"
        processes = list(_descendants())
        if self.computed is None:
            self.computed = sum(map(_seconds, processes))
        if len(processes) > self.limits["processes"]:
            return f"it started more than {self.limits['processes']:g} processes"
        if sum(map(_memory, processes)) > self.limits["memory"]:
            return f"it used more than {self.limits['memory'] / 2**30:g} GB of memory"
        return self._find_endless(sum(map(_seconds, processes)) - self.computed)

    def _find_endless(self, computed: float) -> str:
        """pytest stops a test before this does. This is for one that has got rid of pytest's ways."""
        waited, seconds = time.monotonic() - self.begun, self.limits["seconds"]
        last = self.receiver.messages[-1]["kind"] if self.receiver.messages else ""
        if last == "end":
            return "it went on when all tests were done" if waited > GRACE else ""
        testing = last == "begin"
        grace = GRACE + 2 * seconds if testing else max(START_SECONDS, 2 * seconds)
        endless = waited > grace and (not IDLE * waited < computed < grace or waited > PATIENCE * grace)
        return f"it had not ended after {seconds if testing else grace:g} s, and could not be stopped" if endless else ""


def _descendants() -> Iterator[psutil.Process]:
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process


def _memory(process: psutil.Process) -> int:
    with contextlib.suppress(psutil.Error):
        return int(process.memory_info().rss)
    return 0


def _seconds(process: psutil.Process) -> float:
    """Seconds of computing, by the process and by those that it has started and waited for."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def end_descendants(leader: int) -> None:
    """Kills the leader's group, all at once, and then all that have left the group, until none is there."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(leader, signal.SIGKILL)
    while left := list(_descendants()):
        for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first, or they could fork faster than they are found
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(number)
        _bury(leader)
    _bury(leader)


def _bury(leader: int) -> None:
    """Takes leave of orphans that were given to this process. The leader is left to subprocess."""
    for process in psutil.Process().children():
        with contextlib.suppress(psutil.Error, ChildProcessError):
            if process.status() == psutil.STATUS_ZOMBIE and process.pid != leader:
                os.waitpid(process.pid, os.WNOHANG)


def _describe(code: int) -> str:
    if code >= 0:
        return f"its process ended with exit code {code}"
    with contextlib.suppress(ValueError):
        return f"its process was ended by {signal.Signals(-code).name}"
    return f"its process was ended by signal {-code}"


def _limit(largest_file: int) -> None:
    """In the new process, before the command begins."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _control(_DEATH_SIGNAL, signal.SIGKILL)  # if the supervisor is killed


def adopt_orphans(adopt: bool = True) -> None:
    """Whether this process becomes the parent of what its descendants leave behind. On Linux only."""
    _control(_CHILD_SUBREAPER, adopt)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def main(job: Path, out: IO[str]) -> None:
    adopt_orphans()
    with _signals_wait():
        supervisor = Supervisor(json.loads(job.read_text(encoding="utf-8")))

        def stop(number: int, frame: object) -> None:
            end_descendants(supervisor.process.pid)
            os._exit(128 + number)

        for number in ENDING:
            signal.signal(number, stop)
    json.dump(supervisor.run(), out)


@contextlib.contextmanager
def _signals_wait() -> Iterator[None]:
    """Until there is a process to be ended, and it is known how. The process itself does not inherit that."""
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.stdout)
