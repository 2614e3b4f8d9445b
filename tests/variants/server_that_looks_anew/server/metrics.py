from collections.abc import Iterator
from operator import attrgetter

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tiny_llm_kit.course import task

from ..event_log import BatchState, Event, EventKind


class ServerMetrics:
    @task(week=3, day=6, number=7)
    def read(self, state: BatchState) -> None:
        self._generation_tokens.inc(state.new_tokens)
        tell = {
            EventKind.ARRIVED: self._arrived,
            EventKind.ADMITTED: self._admitted,
            EventKind.FIRST_TOKEN: self._began,
            **dict.fromkeys(ENDS, self._over),
        }
        for event in state.events:
            if event.kind in tell and (event.kind is EventKind.ARRIVED or event.request_id in self._open):
                tell[event.kind](event)

    def _arrived(self, event: Event) -> None:
        self._open[event.request_id] = _Open(arrived=event.time, prompt=event.tokens)

    def _admitted(self, event: Event) -> None:
        self._queue_time.observe(event.time - self._open[event.request_id].arrived)

    def _began(self, event: Event) -> None:
        self._open[event.request_id].first_token = event.time
        self._prompt_tokens.inc(self._open[event.request_id].prompt)
        self._time_to_first_token.observe(event.time - self._open[event.request_id].arrived)

    def _over(self, event: Event) -> None:
        request = self._open.pop(event.request_id)
        self._ended[event.kind].inc(1)
        if event.kind != EventKind.FINISHED:
            return
        self._latency.observe(event.time - request.arrived)
        gaps = event.tokens - 1
        if gaps > 0 and request.first_token is not None:
            self._time_per_token.observe((event.time - request.first_token) / gaps)

    @task(week=3, day=6, number=7)
    def collect(self) -> Iterator[Metric]:
        snapshot = self.stats()
        metrics: list[Metric] = []
        for name, about in {**_COUNTERS, **_GAUGES}.items():
            kind = GaugeMetricFamily if name in _GAUGES else CounterMetricFamily
            metrics.append(kind(f"vllm:{name}", about, labels=["model_name"]))
            metrics[-1].add_metric([self.model_name], attrgetter(name)(snapshot))
        return iter(metrics)

    @task(week=3, day=6, number=7)
    def text(self) -> bytes:
        return generate_latest(registry=self.registry)
