"""Percentiles of any number of values in bounded memory, and the figures of a run of any length.

The histogram is that of DDSketch (Masson et al., VLDB 2019): its buckets grow in equal ratios, so every value is known up to a
relative error, and it needs one bucket per 1 % or so of the range between the smallest and the largest.
"""

import math
from collections import Counter
from types import ModuleType
from typing import Any

RELATIVE_ERROR = 0.005
_SMALLEST = 1e-9
"""Seconds; less counts as 0."""


class Histogram:
    """Counts values, and gives percentiles that are off by `RELATIVE_ERROR` at most."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self._buckets: Counter[int | None] = Counter()  # None: too small to tell from 0

    def add(self, value: float) -> None:
        """Count a value, from 0 on."""
        self.count += 1
        self.total += value
        self._buckets[None if value < _SMALLEST else math.ceil(math.log(value) / _LOG_RATIO)] += 1

    @property
    def mean(self) -> float:
        """Exact; 0 without values."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """As `percentile` of an answer, between the two values that are nearest by rank; 0 without values."""
        if not self.count:
            return 0.0
        place = (self.count - 1) * percent / 100
        below, above = (self._value_at(rank) for rank in (math.floor(place), math.ceil(place)))
        return below + (place - math.floor(place)) * (above - below)

    def _value_at(self, rank: int) -> float:
        seen = self._buckets[None]
        if seen > rank:
            return 0.0
        for bucket in sorted(bucket for bucket in self._buckets if bucket is not None):
            seen += self._buckets[bucket]
            if seen > rank:
                return 2 * math.exp(bucket * _LOG_RATIO) / (_RATIO + 1)
        raise AssertionError("every value is in a bucket")


_RATIO = (1 + RELATIVE_ERROR) / (1 - RELATIVE_ERROR)
_LOG_RATIO = math.log(_RATIO)

FIGURES = ("queue_time", "ttft", "tpot", "latency")
"""The figures of a request, by the names that `RequestTimes` and `Summary` have."""


class RunSketch:
    """A reader of the log like `RunRecorder` that keeps only requests that have not ended. Its summary is the same.

    Args:
        answer: whose recorder, and whose SLO if there is one.
        slo: of goodput; None: without.
    """

    def __init__(self, answer: ModuleType, slo: Any = None) -> None:
        self.answer = answer
        self.slo = slo
        self.recorder = answer.RunRecorder()
        self._kinds = answer.EventKind
        self._ends = {self._kinds.FINISHED, self._kinds.CANCELLED, self._kinds.FAILED}
        self.histograms = {name: Histogram() for name in FIGURES}
        self.arrived = self.finished = self.generated = self.good = self.preemptions = 0
        self.prompt_tokens = 0  # of the finished requests

    def read(self, state: Any) -> None:
        """Take in one iteration."""
        self.recorder.read(state)
        for event in state.events:
            if event.kind is self._kinds.ARRIVED:
                self.arrived += 1
            elif event.kind in self._ends:
                self._close(self.recorder.requests.pop(event.request_id))

    def wanted(self, request_id: int, time: float) -> None:
        """See `RunRecorder.wanted`."""
        self.recorder.wanted(request_id, time)

    def _close(self, times: Any) -> None:
        self.preemptions += times.preemptions
        if times.end is not self._kinds.FINISHED:
            return
        self.finished += 1
        self.generated += times.generated
        self.prompt_tokens += times.prompt_tokens
        self.good += self.slo is not None and self.slo.met_by(times)
        for name, histogram in self.histograms.items():
            if (value := getattr(times, name)) is not None:
                histogram.add(value)

    def summary(self) -> Any:
        """The `Summary`; gaps between tokens are 0, since a simulation does not have them."""
        recorder = self.recorder
        seconds = recorder.ended - (recorder.started or 0.0)

        def per_second(number: int) -> float:
            return number / seconds if seconds > 0 else 0.0

        spreads = {
            name: self.answer.Spread(one.mean, *(one.percentile(percent) for percent in (50, 95, 99)))
            for name, one in self.histograms.items()
        }
        return self.answer.Summary(
            seconds=seconds,
            requests=self.arrived,
            finished=self.finished,
            tokens_per_second=per_second(self.generated),
            requests_per_second=per_second(self.finished),
            goodput=None if self.slo is None else per_second(self.good),
            slot_utilization=recorder.used_slots / recorder.offered_slots if recorder.offered_slots else 0.0,
            inter_token=self.answer.Spread(0.0, 0.0, 0.0, 0.0),
            **spreads,
        )
