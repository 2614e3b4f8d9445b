"""Runs engines in turn and keeps what the machine was doing meanwhile.

A case is a name, a batch size, and a function that serves the workload once. Only a case's function knows what an engine is.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import median

import mlx.core as mx
import numpy as np

from tiny_llm_kit.machine.description import LoadMeter

MAX_TRIES = 3


@dataclass(frozen=True)
class Served:
    """What serving a workload once gave: tokens by request, and times in seconds.

    `utilization` is the mean share of slots in use over all steps, `crowded` the same over steps that left requests waiting
    (None if an engine does not say). `in_flight` is the mean number of requests that were being served over the same steps or,
    if none ever waited, the largest number. `drafted` and `accepted` count drafts, of engines that speculate.
    """

    tokens: list[list[int]]
    ttft: list[float]
    tpot: list[float]
    steps: int
    utilization: float
    crowded: float | None = None
    in_flight: float | None = None
    drafted: int | None = None
    accepted: int | None = None

    @property
    def tokens_per_step(self) -> float:
        return sum(map(len, self.tokens)) / self.steps if self.steps else 0.0


def share_equal(answers: Sequence[object], others: Sequence[object]) -> float:
    """How many of two lists of answers to the same requests are equal, as a share."""
    return sum(a == b for a, b in zip(answers, others, strict=True)) / len(answers)


@dataclass(frozen=True)
class Case:
    """An engine at a batch size."""

    engine: str
    batch_size: int
    serve: Callable[[], Served]


@dataclass(frozen=True)
class Run:
    """One serving: what came out, how long it took, and how much of the machine others had."""

    served: Served
    seconds: float
    peak_memory: int
    others: float
    noisy: bool


@dataclass
class Result:
    """All runs of a case. Figures are medians over the quiet runs; None when there is no quiet one."""

    case: Case
    runs: list[Run] = field(default_factory=list)

    @property
    def quiet(self) -> list[Run]:
        return [run for run in self.runs if not run.noisy]

    def median(self, figure: Callable[[Run], float]) -> float | None:
        return median(map(figure, self.quiet)) if self.quiet else None

    @property
    def seconds(self) -> float | None:
        return self.median(lambda run: run.seconds)

    @property
    def tokens_per_second(self) -> float | None:
        return self.median(lambda run: sum(map(len, run.served.tokens)) / run.seconds)

    @property
    def requests_per_second(self) -> float | None:
        return self.median(lambda run: len(run.served.tokens) / run.seconds)

    def percentile(self, name: str, percent: float) -> float | None:
        """A percentile of "ttft" or "tpot" over the requests of a run, in seconds."""
        return self.median(lambda run: float(np.percentile(getattr(run.served, name) or [0.0], percent)))


def run_case(case: Case, noise_limit: float) -> Run:
    """Serve once, and say whether others had more than `noise_limit` of the machine."""
    mx.clear_cache()
    mx.reset_peak_memory()
    with LoadMeter() as meter:
        served = case.serve()
    return Run(served, meter.wall, mx.get_peak_memory(), meter.others, meter.noisy(noise_limit))


def run_in_turn(cases: Sequence[Case], repeats: int, noise_limit: float, on_run: Callable[[Case, Run], None]) -> list[Result]:
    """Run every case `repeats` times: all cases once, then all again, so that a slow minute hits them alike.

    A noisy run is kept but not counted; it is tried again, up to MAX_TRIES times.
    """
    results = [Result(case) for case in cases]
    for _ in range(repeats):
        for result in results:
            for _ in range(MAX_TRIES):
                run = run_case(result.case, noise_limit)
                result.runs.append(run)
                on_run(result.case, run)
                if not run.noisy:
                    break
    return results


def find(results: Iterable[Result], engine: str, batch_size: int) -> Result | None:
    """The result of an engine at a batch size, if it was run."""
    return next((r for r in results if (r.case.engine, r.case.batch_size) == (engine, batch_size)), None)
