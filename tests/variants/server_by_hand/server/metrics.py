from collections.abc import Iterator

from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from tiny_llm_kit.course import task

from ..event_log import BatchState, EventKind


class ServerMetrics:
    @task(week=3, day=6, number=7)
    def read(self, state: BatchState) -> None:
        for event in state.events:
            if event.kind is EventKind.ARRIVED:
                self._open[event.request_id] = _Open(event.time, event.tokens)
                continue
            known = self._open.get(event.request_id)
            if known is None:
                continue
            since_arrival = event.time - known.arrived
            match event.kind:
                case EventKind.ADMITTED:
                    self._queue_time.observe(since_arrival)
                case EventKind.FIRST_TOKEN:
                    known.first_token = event.time
                    self._prompt_tokens.inc(known.prompt)
                    self._time_to_first_token.observe(since_arrival)
                case kind if kind in self._ended:
                    self._ended[kind].inc()
                    self._open.pop(event.request_id)
                    if kind is EventKind.FINISHED:
                        self._latency.observe(since_arrival)
                        if known.first_token is not None and event.tokens >= 2:
                            self._time_per_token.observe((event.time - known.first_token) / (event.tokens - 1))
        if state.new_tokens:
            self._generation_tokens.inc(state.new_tokens)

    @task(week=3, day=6, number=7)
    def collect(self) -> Iterator[Metric]:
        stats = self.stats()
        for family, names in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
            for name in names:
                metric = family("vllm:" + name, names[name], labels=("model_name",))
                metric.add_metric((self.model_name,), float(getattr(stats, name)))
                yield metric

    @task(week=3, day=6, number=7)
    def text(self) -> bytes:
        return bytes(generate_latest(self.registry))
