"""Progress reports during long work: bars and spinners in a terminal; lines elsewhere, at first every few seconds."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from tiny_llm_kit.cli.text import harmless

SILENCE = 3.5
"""Seconds until the first progress report. To someone who has just started a program, a longer silence looks like a hang."""

LONGEST_SILENCE = 10.0
"""Seconds between reports on work that is known to take long: more of them would fill the log with lines that say the same."""

_GROWTH = 1.5


class Heartbeat:
    """Prints lines and, if there is no terminal, also what `status` says whenever nothing has been printed for a while.

    That is `silence` seconds at first, and longer after each such line, up to `LONGEST_SILENCE`. It has a thread of its own,
    since what is waited for may be one long call.
    """

    def __init__(self, console: Console, status: Callable[[], str], silence: float = SILENCE) -> None:
        self.console = console
        self.status = status
        self.silence = silence
        self.started = self._last = time.perf_counter()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        if not self.console.is_terminal:
            self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._done.set()
        if self._thread.ident:
            self._thread.join()

    def line(self, text: str) -> None:
        """Prints a line with the time since the beginning."""
        self._last = time.perf_counter()
        line = f"[{self._last - self.started:6.1f} s] {harmless(text)}"
        self.console.print(line, markup=False, highlight=False, emoji=False, soft_wrap=True)

    def _watch(self) -> None:
        silence = self.silence
        while not self._done.wait(max(0.01, self._last + silence - time.perf_counter())):
            if time.perf_counter() - self._last >= silence:
                self.line(self.status())
                silence = max(silence, min(_GROWTH * silence, LONGEST_SILENCE))


@contextlib.contextmanager
def working(console: Console, text: str, silence: float = SILENCE) -> Iterator[None]:
    """Says what the block is doing: a spinner in a terminal, a line and then progress reports elsewhere."""
    if console.is_terminal:
        with console.status(f"{text} …"):
            yield
    else:
        console.print(f"{text} …", markup=False, highlight=False)
        with Heartbeat(console, lambda: f"still at it: {text}", silence):
            yield


@contextlib.contextmanager
def progress_bar(console: Console, text: str, total: int | None = None, silence: float = SILENCE) -> Iterator["Bar"]:
    """A bar of `total` pieces of work (None: see `Bar.begin`) in a terminal; lines elsewhere."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, transient=True) as progress:
        bar = Bar(progress, text, total)
        with Heartbeat(console, bar.status, silence):
            yield bar


class Bar:
    """How far some work is; see `progress_bar`."""

    def __init__(self, progress: Progress, text: str, total: int | None) -> None:
        self.progress = progress
        self.text = text
        self.total = total
        self.done = 0
        self._task = progress.add_task(text, total=total)

    def begin(self, total: int) -> None:
        """Says how much work there is."""
        self.total = total
        self.progress.update(self._task, total=total)

    def describe(self, text: str) -> None:
        """Names what is being done now."""
        self.text = text
        self.progress.update(self._task, description=text)

    def advance(self) -> None:
        self.reach(self.done + 1)

    def reach(self, done: int) -> None:
        """Says how much of the work is done."""
        self.done = done
        self.progress.update(self._task, completed=done)

    def print(self, text: str) -> None:
        """A line above the bar."""
        self.progress.console.print(harmless(text), markup=False, highlight=False, soft_wrap=True)

    def status(self) -> str:
        return f"{self.text}: {self.done}" if self.total is None else f"{self.text}: {self.done} of {self.total}"
