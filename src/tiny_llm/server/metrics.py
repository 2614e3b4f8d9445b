"""Metrics for a monitor: Prometheus' text format, under the names that vLLM uses, so its dashboards work.

Times come from the event log, and current states from a snapshot of the engine. No request objects are known here.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from tiny_llm_kit.course import task

from ..event_log import ENDS, BatchState, Event, EventKind

# vLLM's, in seconds.
_FIRST = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160, 640, 2560)
_TOKEN = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_WHOLE = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)

_GAUGES = {
    "num_requests_running": "Requests that are being computed.",
    "num_requests_waiting": "Requests that wait to be computed.",
    "kv_cache_usage_perc": "Share of the memory for keys and values that is in use, 0 to 1.",
}
_COUNTERS = {
    "prefix_cache_queries": "Prompt tokens that were looked for in the prefix cache.",
    "prefix_cache_hits": "Prompt tokens that were found there.",
    "num_preemptions": "How often a request lost its blocks.",
    "spec_decode_num_draft_tokens": "Tokens that were drafted.",
    "spec_decode_num_accepted_tokens": "Drafted tokens that were accepted.",
}


@dataclass
class _Open:
    """A request that has not ended, in seconds on the engine's clock."""

    arrived: float
    prompt: int
    first_token: float | None = None


class ServerMetrics(Collector):
    """The metrics of one server, in a registry of its own: two servers in a process share nothing.

    Its memory is bounded: a histogram counts and keeps no values, and only requests that have not ended are kept.

    Args:
        model_name: the label of every metric.
        stats: called once per scrape, in any thread: a snapshot of the engine, which has `num_requests_running`,
            `num_requests_waiting`, `kv_cache_usage_perc` (0 … 1), and the counts of `PagedMetrics`, all under vLLM's names.
    """

    def __init__(self, model_name: str, stats: Callable[[], Any]) -> None:
        self.model_name = model_name
        self.stats = stats
        self.registry = CollectorRegistry()
        self.registry.register(self)
        self._time_to_first_token = self._histogram("time_to_first_token_seconds", "From arrival to first token.", _FIRST)
        self._queue_time = self._histogram("request_queue_time_seconds", "From arrival to admission.", _WHOLE)
        self._time_per_token = self._histogram(
            "request_time_per_output_token_seconds", "Mean time per token after the first, of each answer.", _TOKEN
        )
        self._latency = self._histogram("e2e_request_latency_seconds", "From arrival to the end of the answer.", _WHOLE)
        self._prompt_tokens = self._counter("prompt_tokens", "Tokens of prompts that have been read.")
        self._generation_tokens = self._counter("generation_tokens", "Tokens of answers.")
        ended = Counter(
            "tiny_llm:requests_ended", "Requests that ended, and how.", ["model_name", "end"], registry=self.registry
        )
        self._ended = {kind: ended.labels(model_name, kind.value) for kind in ENDS}
        self._open: dict[int, _Open] = {}

    @task(week=3, day=6, number=7)
    def read(self, state: BatchState) -> None:
        """Take in one iteration: a reader of the engine's `EventLog`. It runs in the engine's thread."""
        raise NotImplementedError("Week 3 Day 6, task 7: metrics. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=7)
    def _read(self, event: Event) -> None:
        raise NotImplementedError("Week 3 Day 6, task 7: metrics. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=7)
    def _observe_answer(self, request: _Open, end: Event) -> None:
        """Only for complete answers: one that was cancelled or failed would make the server look fast."""
        raise NotImplementedError("Week 3 Day 6, task 7: metrics. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=7)
    def collect(self) -> Iterator[Metric]:
        """What the registry asks for in each scrape: the states and counts of the engine, all from one snapshot."""
        raise NotImplementedError("Week 3 Day 6, task 7: metrics. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=7)
    def text(self) -> bytes:
        """All metrics, in the format that `prometheus_client.CONTENT_TYPE_LATEST` names."""
        raise NotImplementedError("Week 3 Day 6, task 7: metrics. Read book/src/week3-06-server.md")

    def _histogram(self, name: str, about: str, buckets: tuple[float, ...]) -> Histogram:
        histogram = Histogram(f"vllm:{name}", about, ["model_name"], registry=self.registry, buckets=buckets)
        return histogram.labels(self.model_name)

    def _counter(self, name: str, about: str) -> Counter:
        return Counter(f"vllm:{name}", about, ["model_name"], registry=self.registry).labels(self.model_name)
