"""A heap finds the neighbours of a percentile, and a summary is put together name by name."""

from collections.abc import Sequence
from heapq import nsmallest
from math import ceil

from tiny_llm_kit.course import task

from ..event_log import EventKind
from .request_times import RequestTimes, RunRecorder


class Slo:
    @task(week=2, day=7, number=2)
    def met_by(self, times: RequestTimes) -> bool:
        if times.end is EventKind.FINISHED and times.ttft is not None and times.ttft <= self.ttft:
            return True if times.tpot is None else times.tpot <= self.tpot
        return False


@task(week=2, day=7, number=2)
def percentile(values: Sequence[float], percent: float) -> float:
    if not percent >= 0 or not percent <= 100:
        raise ValueError(f"{percent} % of the values can't be below anything")
    if len(values) < 1:
        raise ValueError(f"no value is below or above any in {list(values)}")
    place = percent * (len(values) - 1) / 100
    lowest = nsmallest(ceil(place) + 1, values)
    share = ceil(place) - place
    return share * lowest[max(-2, -len(lowest))] + (1 - share) * lowest[-1]


@task(week=2, day=7, number=2)
def spread(values: Sequence[float]) -> Spread:
    if len(values) == 0:
        return Spread(*[0.0] * 4)
    return Spread(
        p99=percentile(values, 99), p95=percentile(values, 95), p50=percentile(values, 50), mean=sum(values) / len(values)
    )


@task(week=2, day=7, number=2)
def summarize(recorder: RunRecorder, slo: Slo | None = None, warm_up: float = 0.0) -> Summary:
    if not warm_up >= 0:
        raise ValueError(f"a warm-up lasts 0 seconds or more, not {warm_up}")
    arrivals = sorted((times.arrived, request_id) for request_id, times in recorder.requests.items())
    while arrivals and arrivals[0][0] < recorder.started + warm_up:
        arrivals.pop(0)
    seconds = recorder.ended - arrivals[0][0] if arrivals else 0.0
    seconds = seconds if seconds > 0 else 0.0
    ended_well = [t for _, i in arrivals if (t := recorder.requests[i]).end == EventKind.FINISHED]
    figures = {
        name: spread([time for times in ended_well if (time := getattr(times, name)) is not None])
        for name in ("queue_time", "ttft", "tpot", "latency")
    }
    gaps: list[float] = []
    for times in ended_well:
        gaps.extend(times.inter_token_latencies)
    rate = 1 / seconds if seconds else 0.0
    return Summary(
        seconds=seconds,
        requests=len(arrivals),
        finished=len(ended_well),
        tokens_per_second=rate * sum(times.generated for times in ended_well),
        requests_per_second=rate * len(ended_well),
        goodput=rate * len([times for times in ended_well if slo.met_by(times)]) if slo else None,
        slot_utilization=recorder.used_slots / recorder.offered_slots if recorder.used_slots else 0.0,
        inter_token=spread(gaps),
        **figures,
    )
