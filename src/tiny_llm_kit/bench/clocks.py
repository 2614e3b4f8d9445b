"""Two clocks for a run: the wall's, and the processor time that this process has taken."""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds, as an engine asks for them, and a way to let them pass."""

    def __call__(self) -> float: ...

    def sleep(self, seconds: float) -> None: ...


class WallClock:
    """The time that users feel."""

    def __call__(self) -> float:
        return time.perf_counter()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class CpuClock:
    """The processor time of this process, for a machine that others use at the same time: their work does not count.

    It is about the time that a run would take alone on one core, if everything is computed by one thread at a time. Sleep
    computes nothing, so it takes no time but counts.
    """

    def __init__(self) -> None:
        self._slept = 0.0

    def __call__(self) -> float:
        return time.process_time() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds
