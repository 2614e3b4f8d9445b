"""As many threads for matrix products as there are cores that others leave free.

OpenBLAS cuts each product into equal parts, one per thread, and waits for the last. If another program has the core of one
part, every product takes as long as the scheduler lets that program run, and a model makes hundreds of products per token:
alongside one busy program on two cores, a decode step takes over twenty times as long. With one thread fewer it takes less than
twice as long.

`ThreadCount` decides, and knows no clock, file or thread; `follow_load` looks at the machine and applies the decision.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tiny_llm_kit.machine.cores import Budget, find_budgets

CHECK_SECONDS = 0.25
TOLERATED = 0.3  # share of a core that others may use before it counts as taken
QUIET_CHECKS = 2  # in a row, before a thread is added; one is taken away at once


class ThreadCount:
    """The number of threads to use, at least 1 and at most `most`; it starts with 1, and the first check may raise it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.current = 1
        self._quiet_checks = QUIET_CHECKS - 1

    def update(self, free_cores: float) -> int:
        """The number of threads from now on, if others left this many cores since the last check."""
        wanted = max(1, min(self.most, int(free_cores + TOLERATED)))
        self._quiet_checks = self._quiet_checks + 1 if wanted > self.current else 0
        if wanted < self.current or self._quiet_checks >= QUIET_CHECKS:
            self.current, self._quiet_checks = wanted, 0
        return self.current


@dataclass(frozen=True)
class Sample:
    """Clocks read at one moment, in seconds: the time, this process's use of cores, and all processes' use of each budget."""

    time: float
    own: float
    used: tuple[float, ...]


def free_cores(budgets: Sequence[Budget], before: Sample, after: Sample) -> float:
    """Cores that others left to this process between two samples: the least that any of the budgets had."""
    seconds, own = after.time - before.time, after.own - before.own
    used = [now - then for now, then in zip(after.used, before.used, strict=True)]
    return min(budget.cores - (all_used - own) / seconds for budget, all_used in zip(budgets, used, strict=True))


def follow_load(set_threads: Callable[[int], object], offered: int) -> int:
    """Keep the number of threads at what others leave, from now on, by calling `set_threads` from a thread of its own.

    Args:
        set_threads: is called with 1 now, and later only when the number changes.
        offered: the most threads that there can be.
    Returns:
        The most threads that will be used. It is 1, and nothing is watched, if there is one core, or no way to tell how busy
        the cores are: then one thread is safe.
    """
    set_threads(1)
    try:
        budgets = find_budgets()
        most = max(1, min(offered, *(int(budget.cores) for budget in budgets)))
        if most > 1:
            _Watcher(set_threads, most, budgets).start()
    except (OSError, ValueError, RuntimeError):  # RuntimeError: the system refuses another thread
        return 1
    return most


class _Watcher:
    def __init__(self, set_threads: Callable[[int], object], most: int, budgets: Sequence[Budget]) -> None:
        self.set_threads = set_threads
        self.count = ThreadCount(most)
        self.budgets = budgets
        # A child gets OpenBLAS's locks as they are at the fork, so nothing may be changed there then.
        self.changing = threading.Lock()

    def start(self) -> None:
        self._start_thread()
        os.register_at_fork(
            before=self.changing.acquire, after_in_parent=self.changing.release, after_in_child=self._start_in_child
        )

    def _start_thread(self) -> None:
        threading.Thread(target=self._watch, name="blas-threads", daemon=True).start()

    def _start_in_child(self) -> None:
        """A fork copies the thread that called it and no other."""
        self.changing.release()
        try:
            self._start_thread()
        except RuntimeError:  # the system refuses another thread
            self.set_threads(1)

    def _watch(self) -> None:
        before = self._sample()
        while True:
            time.sleep(CHECK_SECONDS)
            after = self._sample()
            free = free_cores(self.budgets, before, after) if before and after else 1
            before = after
            threads = self.count.current
            if self.count.update(free) != threads:
                with self.changing:
                    self.set_threads(self.count.current)

    def _sample(self) -> Sample | None:
        """None if a file cannot be read this time, for example because too many are open."""
        try:
            return Sample(time.monotonic(), time.process_time(), tuple(budget.used() for budget in self.budgets))
        except (OSError, ValueError):
            return None
