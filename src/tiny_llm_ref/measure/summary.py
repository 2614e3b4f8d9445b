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
        if times.end is not EventKind.FINISHED or times.ttft is None:
            return False
        return times.ttft <= self.ttft and (times.tpot is None or times.tpot <= self.tpot)


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
    if not values:
        raise ValueError("there are no values, so there is no percentile: ask only if there are some")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent is {percent}: it must be from 0 to 100")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


@task(week=2, day=7, number=2)
def spread(values: Sequence[float]) -> Spread:
    """Mean and percentiles; all 0 if there are no values."""
    if not values:
        return Spread(0.0, 0.0, 0.0, 0.0)
    ordered = sorted(values)
    return Spread(fsum(ordered) / len(ordered), *(percentile(ordered, percent) for percent in (50, 95, 99)))


@task(week=2, day=7, number=2)
def summarize(recorder: RunRecorder, slo: Slo | None = None, warm_up: float = 0.0) -> Summary:
    """The figures of a run; requests that arrived in its first `warm_up` seconds do not count.

    Rates are 0 where no time has passed.

    Raises:
        ValueError: if `warm_up` is negative.
    """
    if not warm_up >= 0:
        raise ValueError(f"warm_up is {warm_up}: it must be 0 seconds or more")
    begin = (recorder.started or 0.0) + warm_up
    counted = [times for times in recorder.requests.values() if times.arrived >= begin]
    finished = [times for times in counted if times.end is EventKind.FINISHED]
    seconds = max(recorder.ended - min(times.arrived for times in counted), 0.0) if counted else 0.0

    def per_second(count: int) -> float:
        return count / seconds if seconds else 0.0

    return Summary(
        seconds=seconds,
        requests=len(counted),
        finished=len(finished),
        tokens_per_second=per_second(sum(times.generated for times in finished)),
        requests_per_second=per_second(len(finished)),
        goodput=None if slo is None else per_second(sum(slo.met_by(times) for times in finished)),
        slot_utilization=recorder.used_slots / recorder.offered_slots if recorder.offered_slots else 0.0,
        queue_time=_spread_of(times.queue_time for times in finished),
        ttft=_spread_of(times.ttft for times in finished),
        tpot=_spread_of(times.tpot for times in finished),
        inter_token=spread([gap for times in finished for gap in times.inter_token_latencies]),
        latency=_spread_of(times.latency for times in finished),
    )


@task(week=2, day=7, number=2)
def _spread_of(figures: Iterable[float | None]) -> Spread:
    return spread([figure for figure in figures if figure is not None])
