"""A run in a few figures: percentiles, throughput, goodput, utilization."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import fsum

from tiny_llm_kit.course import task

from ..event_log import EventKind
from .request_times import RequestTimes, RunRecorder


@dataclass(frozen=True)
class Slo:
    """A service level objective: what a user may expect from every request, in seconds.

    Goodput counts only requests that meet all of it ("DistServe", OSDI 2024, section 1).
    """

    ttft: float
    tpot: float

    @task(week=2, day=7, number=2)
    def met_by(self, times: RequestTimes) -> bool:
        """Whether a request finished within both limits; a time that equals its limit is within it. One that failed or was
        cancelled did not; one with a single token has no TPOT and cannot break that limit."""
        raise NotImplementedError("Week 2 Day 7, task 2: a run in a few figures. Read book/src/week2-07-measuring.md")


@dataclass(frozen=True)
class Spread:
    """A figure over many requests, in seconds; all 0 if no request has it."""

    mean: float
    p50: float
    p95: float
    p99: float


@dataclass(frozen=True)
class Summary:
    """A run.

    Args:
        seconds: from the first arrival that counts to the end of the last step.
        requests: how many arrived and count; finished: how many of them finished, neither cancelled nor failed.
        tokens_per_second, requests_per_second: of finished requests, over `seconds`.
        goodput: finished requests that met the SLO, per second; None without one.
        slot_utilization: share of the slots in use, over all steps, 0 … 1. It says nothing about how busy the machine is: a
            step with one row can take as long as one with eight.
        queue_time, ttft, tpot, inter_token, latency: over the finished requests; inter_token over the gaps of all of them.
    """

    seconds: float
    requests: int
    finished: int
    tokens_per_second: float
    requests_per_second: float
    goodput: float | None
    slot_utilization: float
    queue_time: Spread
    ttft: Spread
    tpot: Spread
    inter_token: Spread
    latency: Spread


@task(week=2, day=7, number=2)
def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` percent of the values lie, by linear interpolation between the two nearest.

    With n values in order, the first is at 0 %, the last at 100 %, and the others at equal distances in between. It is written
    by hand this once, and does what numpy.percentile does.

    Raises:
        ValueError: if there are no values, or `percent` is not from 0 to 100.
    """
    raise NotImplementedError("Week 2 Day 7, task 2: a run in a few figures. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=2)
def spread(values: Sequence[float]) -> Spread:
    """Mean and percentiles; all 0 if there are no values."""
    raise NotImplementedError("Week 2 Day 7, task 2: a run in a few figures. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=2)
def summarize(recorder: RunRecorder, slo: Slo | None = None, warm_up: float = 0.0) -> Summary:
    """The figures of a run; requests that arrived in its first `warm_up` seconds do not count.

    Rates are 0 where no time has passed.

    Raises:
        ValueError: if `warm_up` is negative.
    """
    raise NotImplementedError("Week 2 Day 7, task 2: a run in a few figures. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=2)
def _spread_of(figures: Iterable[float | None]) -> Spread:
    raise NotImplementedError("Week 2 Day 7, task 2: a run in a few figures. Read book/src/week2-07-measuring.md")
