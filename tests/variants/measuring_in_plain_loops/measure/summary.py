"""A summary that goes through the requests once, and a percentile that weighs its two neighbours."""

from collections import defaultdict
from collections.abc import Sequence
from math import ceil, floor
from statistics import fmean

from tiny_llm_kit.course import task

from ..event_log import EventKind
from .request_times import RequestTimes, RunRecorder


class Slo:
    @task(week=2, day=7, number=2)
    def met_by(self, times: RequestTimes) -> bool:
        limits = ((times.ttft, self.ttft), (times.tpot, self.tpot))
        return times.end == EventKind.FINISHED and all(limit >= figure for figure, limit in limits if figure is not None)


@task(week=2, day=7, number=2)
def percentile(values: Sequence[float], percent: float) -> float:
    if len(values) == 0 or not (percent >= 0 and percent <= 100):
        raise ValueError(f"the {percent}th percentile of {len(values)} values is not known")
    place = percent / 100 * (len(values) - 1)
    low, high = floor(place), ceil(place)
    if low == high:
        return float(sorted(values)[low])
    left, right = sorted(values)[low : high + 1]
    return left * (high - place) + right * (place - low)


@task(week=2, day=7, number=2)
def spread(values: Sequence[float]) -> Spread:
    if values:
        return Spread(fmean(values), percentile(values, 50), percentile(values, 95), percentile(values, 99))
    return Spread(mean=0, p50=0, p95=0, p99=0)


@task(week=2, day=7, number=2)
def summarize(recorder: RunRecorder, slo: Slo | None = None, warm_up: float = 0.0) -> Summary:
    if warm_up < 0:
        raise ValueError(f"a warm_up of {warm_up} s is over before the run begins")
    found, counts, first = defaultdict(list), defaultdict(int), recorder.ended
    for times in recorder.requests.values():
        if times.arrived - recorder.started < warm_up:
            continue
        counts["requests"] += 1
        first = min(first, times.arrived)
        if times.end != EventKind.FINISHED:
            continue
        counts["finished"] += 1
        counts["tokens"] += times.generated
        counts["good"] += bool(slo and slo.met_by(times))
        found["inter_token"] += times.inter_token_latencies
        for name in ("queue_time", "ttft", "tpot", "latency"):
            figure = getattr(times, name)
            found[name] += [] if figure is None else [figure]
    seconds = recorder.ended - first
    rates = {name: count / seconds if seconds > 0 else 0.0 for name, count in counts.items()}
    return Summary(
        seconds,
        counts["requests"],
        counts["finished"],
        rates.get("tokens", 0.0),
        rates.get("finished", 0.0),
        rates.get("good", 0.0) if slo else None,
        recorder.used_slots / max(recorder.offered_slots, 1),
        **{name: spread(found[name]) for name in ("queue_time", "ttft", "tpot", "inter_token", "latency")},
    )
