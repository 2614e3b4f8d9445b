"""Stops a test that does not end, and says where in the answer under test it was.

pytest-timeout knows which tests to watch, and for how long: `timeout` in pyproject.toml, `--timeout`, `@pytest.mark.timeout`.
How a test is stopped is our own, for three reasons: a right answer needs longer on a machine that others keep busy; an answer
may catch whatever is raised in it; and nothing can be raised in one that is within a kernel.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, NoReturn

import psutil
import pytest
import pytest_timeout

from reasons import describe_calls

GRACE = 4.0
"""Seconds between asking a test to stop and ending the whole run."""

IDLE, BUSY = 0.002, 0.4
"""Shares of one core. Where others leave a test less than `BUSY`, it may take longer, until it has computed as much as this
share of its seconds; unless it computes less than `IDLE`: then it waits for what never comes."""

PATIENCE = 10
"""How many times its seconds a test may take at most."""

UNWATCHED = 0.02
"""The share of its seconds after which a test is watched. Nearly all end before, and to look at the processes of a test takes
longer than most tests do."""

ENOUGH = 3
"""Tests that were stopped, after which the others are not begun: each would take as long."""


class DidNotEnd(BaseException):
    """Raised in a test that has run for too long. It is no Exception, so that no answer catches it by accident."""


@pytest.hookimpl(optionalhook=True)  # pytest-timeout may not be loaded
def pytest_timeout_set_timer(item: Any, settings: pytest_timeout.Settings) -> bool | None:
    """pytest-timeout asks here first; None leaves it to pytest-timeout's own ways."""
    if threading.current_thread() is not threading.main_thread():
        return None
    watchdog = Watchdog(item, settings.timeout)
    watchdog.start()
    item.cancel_timeout = watchdog.cancel
    return True


_stopped = pytest.StashKey[int]()


class Watchdog:
    """Watches one test, which runs in the main thread, from a thread of its own."""

    def __init__(self, item: pytest.Item, seconds: float) -> None:
        self.item = item
        self.seconds = seconds
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self.main = threading.get_ident()
        self.handler_before = signal.signal(signal.SIGALRM, self._raise)
        self.thread.start()

    def cancel(self) -> None:
        if not self.over.is_set():
            self.over.set()
            self.thread.join()  # no signal comes after this
            signal.signal(signal.SIGALRM, self.handler_before)

    def _watch(self) -> None:
        if self._ends_in_time():
            return
        signal.pthread_kill(self.main, signal.SIGALRM)
        if not self.over.wait(GRACE):
            self._end_run()

    def _ends_in_time(self) -> bool:
        if self.over.wait(UNWATCHED * self.seconds):
            return True
        began, wait, computed = _seconds_of_computing(), (1 - UNWATCHED) * self.seconds, [0.0]
        for _ in range(4 * PATIENCE):
            if self.over.wait(wait):
                return True
            computed.append(_seconds_of_computing() - began)
            if computed[-1] >= BUSY * self.seconds or computed[-1] - computed[-2] < IDLE * wait:
                break
            wait = self.seconds / 4
        return False

    def _raise(self, signal_number: int, frame: FrameType | None) -> None:
        __tracebackhide__ = True
        if pytest_timeout.is_debugging():
            self.over.set()
        if not self.over.is_set():
            self._count()
            raise DidNotEnd(self._describe())

    def _count(self) -> None:
        session = self.item.session
        session.stash[_stopped] = session.stash.get(_stopped, 0) + 1
        if session.stash[_stopped] == ENOUGH:
            session.shouldstop = f"{ENOUGH} tests had to be stopped, and others may be as endless: fix these first"

    def _describe(self) -> str:
        threads = [calls for frame in sys._current_frames().values() if (calls := describe_calls(frame))]
        running = "; in another thread: ".join(threads) or "no line of the answer"
        return f"this had not ended after {self.seconds:g} s. What was running: {running}"

    def _end_run(self) -> NoReturn:
        """Neither a signal nor an exception has helped: report the test as failed, and end the process with its summary."""
        try:
            config, message = self.item.config, f"{self._describe()}. It cannot be stopped, so this run ends here"
            if capture := config.pluginmanager.getplugin("capturemanager"):
                capture.suspend_global_capture()
            call = pytest.CallInfo.from_call(lambda: pytest.fail(message, pytrace=False), "call")
            report = self.item.ihook.pytest_runtest_makereport(item=self.item, call=call)
            self.item.ihook.pytest_runtest_logreport(report=report)
            runner = [config.pluginmanager.getplugin("runner")]  # would tear down what the test still uses
            finish = config.pluginmanager.subset_hook_caller("pytest_sessionfinish", runner)
            finish(session=self.item.session, exitstatus=pytest.ExitCode.TESTS_FAILED)
        finally:
            sys.stdout.flush()
            os._exit(pytest.ExitCode.TESTS_FAILED)


def _seconds_of_computing() -> float:
    """The time of this process and of those that it has started, such as a compiler; not of this thread, which only watches."""
    ended = os.times()
    total = time.process_time() - time.thread_time() + ended.children_user + ended.children_system
    with contextlib.suppress(OSError):  # the test has left no file to be opened, and so no way to look at other processes
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):  # this one has just ended, too
                times = child.cpu_times()
                total += times.user + times.system
    return total
