from dataclasses import dataclass

import numpy as np

from tiny_llm_kit.course import task

from .event_log import ENDS, BatchState, Event, EventKind


@dataclass
class BatchingMetrics:
    @task(week=2, day=6, number=7)
    def update(self, batch_state: BatchState) -> None:
        for event in batch_state.events:
            self._record(event)
        share = batch_state.active_requests / batch_state.max_slots
        self.steps += 1
        self._utilization += share
        if batch_state.queue_size > 0:
            self._crowded_steps += 1
            self._crowded_utilization += share
        self.active_requests = batch_state.active_requests
        self.queue_size = batch_state.queue_size
        self.total_tokens += batch_state.new_tokens
        self.ended = batch_state.time

    @task(week=2, day=6, number=7)
    def _record(self, event: Event) -> None:
        if event.kind is EventKind.ARRIVED:
            self.open[event.request_id] = Timeline(event.time)
            self.total_requests += 1
            if self.started is None:
                self.started = event.time
            return
        timeline = self.open.get(event.request_id)
        if timeline is None:
            return
        if event.kind is EventKind.ADMITTED:
            timeline.admitted = event.time
        elif event.kind is EventKind.FIRST_TOKEN:
            timeline.first_token = event.time
        elif event.kind in ENDS:
            timeline.finished, timeline.tokens = event.time, event.tokens
            self.finished.append(self.open.pop(event.request_id))
            self.finished_requests += 1
            self._latency += event.time - timeline.arrived

    @property
    @task(week=2, day=6, number=7)
    def throughput_tokens_per_sec(self) -> float:
        if self.started is None or self.ended <= self.started:
            return 0.0
        return self.total_tokens / (self.ended - self.started)

    @task(week=2, day=6, number=7)
    def values(self, name: str) -> list[float]:
        if name not in _FIGURES:
            raise ValueError(f"there is no figure {name!r}: choose one of {', '.join(_FIGURES)}")
        figures = (_FIGURES[name](timeline) for timeline in [*self.finished, *self.open.values()])
        return [figure for figure in figures if figure is not None]

    @task(week=2, day=6, number=7)
    def percentiles(self, name: str) -> dict[str, float]:
        values = self.values(name) or [0.0]
        return {f"p{q}": float(np.percentile(values, q)) for q in (50, 95, 99)}


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else end - start


def _tpot(timeline: Timeline) -> float | None:
    seconds = _between(timeline.first_token, timeline.finished)
    return None if seconds is None or timeline.tokens < 2 else seconds / (timeline.tokens - 1)


_FIGURES = {
    "queue_time": lambda timeline: _between(timeline.arrived, timeline.admitted),
    "ttft": lambda timeline: _between(timeline.arrived, timeline.first_token),
    "tpot": lambda timeline: _tpot(timeline),
    "latency": lambda timeline: _between(timeline.arrived, timeline.finished),
}
