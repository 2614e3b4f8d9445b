"""The runs of `bench-load`, one schedule after another, with progress reports."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from tiny_llm_kit.bench.load_test import LoadTest, Point, climb
from tiny_llm_kit.bench.serving import record_schedule
from tiny_llm_kit.cli.progress import Bar
from tiny_llm_kit.timeline.recorder import Recorder


@dataclass
class Sweep:
    """All runs of a schedule.

    rates: requests per second, ascending; with `climbing` only up to the first that breaks the SLO.
    cost: for simulations of the same, and clients: for a closed loop; None for neither.
    """

    test: LoadTest
    bar: Bar
    rates: Sequence[float]
    climbing: bool
    cost: Any
    clients: int | None

    def __post_init__(self) -> None:
        self.recorders: list[Recorder] = []

    def run(self, schedule: str) -> list[Point]:
        """Its points: measured, in a closed loop, simulated."""
        points = self._measured(schedule)
        found = list(climb(points) if self.climbing else points)
        self.recorders.append(self._recorder)
        if self.clients is not None:
            self._announce(f"{schedule}, {self.clients} clients")
            found.append(self._shown(self.test.closed_loop(schedule, self.clients)))
        if self.cost is not None:
            self.bar.describe(f"{schedule}, simulated; schedules")
            found += [self.test.simulated(schedule, point.rate, self.cost) for point in found if point.rate is not None]
        self.bar.advance()
        return found

    def _measured(self, schedule: str) -> Iterator[Point]:
        for rate in self.rates:
            name = f"{schedule}, {rate:.2f} requests/s"
            self._announce(name)
            yield self._shown(self.test.open_loop(schedule, rate, partial(self._record, schedule, name)))

    def _record(self, schedule: str, name: str) -> list[Any]:
        """A timeline of the last run of a schedule is kept."""
        self._recorder = record_schedule(name, schedule, self.test.options)
        return [self._recorder.read]

    def _announce(self, name: str) -> None:
        self.bar.describe(f"{name}; schedules")
        self.test.on_end = lambda done: self.bar.describe(f"{name}, {done} of {len(self.test.items)} answered; schedules")

    def _shown(self, point: Point) -> Point:
        load = f"{point.clients} clients" if point.rate is None else f"{point.rate:.2f} requests/s"
        verdict = f"others had {point.others:.0%} of the CPU" if point.noisy else f"others {point.others:.1%}"
        self.bar.print(f"{point.schedule:>20} at {load}: {point.kept:4.0%} within the SLO  ({verdict})")
        return point
