"""Notices from outside that a process of tests is stuck: by how long it is silent, and how much it computes meanwhile."""

import subprocess
import time

import psutil

LOADING = 50.0
"""Seconds that loading the package and the tests may take at least, however short the time of a test."""

REPORTING = 3.0
"""Seconds of computing in which the suites may report that they have stopped a test."""


class StuckWatch:
    """Helps where the watchdog of the suites cannot: in an import, or in code that never lets go.

    `timeout`: seconds after which the suites stop a test.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.restart(None)

    def restart(self, process: subprocess.Popen[str] | None) -> None:
        self.since, self.computed = time.monotonic(), _seconds_of_computing(process)
        self.next_look = self.since + 1

    @property
    def silence(self) -> float:
        return time.monotonic() - self.since

    def find_reason_to_stop(self, process: subprocess.Popen[str] | None, testing: bool) -> str:
        if time.monotonic() < self.next_look:
            return ""
        self.next_look = time.monotonic() + 1
        computed = _seconds_of_computing(process) - self.computed
        limit = self.timeout if testing else max(self.timeout, LOADING)
        if computed > 1.5 * limit + REPORTING or self.silence > (12 if testing else 3) * limit:
            return f"nothing happened for {self.silence:.0f} s, so the process was stopped: what never ends there?"
        return ""


def _seconds_of_computing(process: subprocess.Popen[str] | None) -> float:
    if process is None:
        return 0.0
    try:
        times = psutil.Process(process.pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)
