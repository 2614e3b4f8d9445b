"""The events of each request, as they came. All figures but the few that are over everything follow from them."""

from collections.abc import Iterator

from tiny_llm_kit.course import task


class BatchingMetrics:
    _log: dict[int, dict[EventKind, Event]] = field(default_factory=dict)
    _closed: deque[dict[EventKind, Event]] = field(default_factory=deque)
    _shares: list[float] = field(default_factory=lambda: [0.0, 0.0])
    _crowded: int = 0

    @task(week=2, day=6, number=7)
    def update(self, batch_state: BatchState) -> None:
        self.steps, self.ended = self.steps + 1, batch_state.time
        self.active_requests, self.queue_size = batch_state.active_requests, batch_state.queue_size
        self.total_tokens += batch_state.new_tokens
        share = batch_state.active_requests / batch_state.max_slots
        self._shares[0] += share
        if batch_state.queue_size > 0:
            self._shares[1] += share
            self._crowded += 1
        for event in batch_state.events:
            if event.kind == EventKind.ARRIVED:
                self.total_requests += 1
                self._log[event.request_id] = {}
                self.started = min(event.time, self.started if self.started is not None else event.time)
            if event.request_id in self._log:
                self._log[event.request_id][event.kind] = event
                if event.kind in ENDS:
                    self._log[event.request_id][EventKind.FINISHED] = event
                    self._close(self._log.pop(event.request_id))

    def _close(self, events: dict[EventKind, Event]) -> None:
        self.finished_requests += 1
        self._latency += events[EventKind.FINISHED].time - events[EventKind.ARRIVED].time
        self._closed.append(events)
        while len(self._closed) > KEPT:
            self._closed.popleft()

    @property
    @task(week=2, day=6, number=7)
    def throughput_tokens_per_sec(self) -> float:
        if self.started is None or self.ended <= self.started:
            return 0.0
        return self.total_tokens / (self.ended - self.started)

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization(self) -> float:
        return self._shares[0] / max(self.steps, 1)

    @property
    @task(week=2, day=6, number=7)
    def slot_utilization_while_waiting(self) -> float:
        return 1.0 if self._crowded == 0 else self._shares[1] / self._crowded

    @property
    @task(week=2, day=6, number=7)
    def average_latency(self) -> float:
        return self._latency / max(self.finished_requests, 1)

    @task(week=2, day=6, number=7)
    def values(self, name: str) -> list[float]:
        match name:
            case "queue_time":
                return list(self._spans(EventKind.ARRIVED, EventKind.ADMITTED))
            case "ttft":
                return list(self._spans(EventKind.ARRIVED, EventKind.FIRST_TOKEN))
            case "latency":
                return list(self._spans(EventKind.ARRIVED, EventKind.FINISHED))
            case "tpot":
                return list(self._times_per_token())
        raise ValueError(f"there is no figure {name!r}")

    def _spans(self, start: EventKind, end: EventKind) -> Iterator[float]:
        for events in [*self._closed, *self._log.values()]:
            if start in events and end in events:
                yield events[end].time - events[start].time

    def _times_per_token(self) -> Iterator[float]:
        for events in self._closed:
            last = events[EventKind.FINISHED]
            if last.tokens >= 2 and EventKind.FIRST_TOKEN in events:
                yield (last.time - events[EventKind.FIRST_TOKEN].time) / (last.tokens - 1)

    @task(week=2, day=6, number=7)
    def percentiles(self, name: str) -> dict[str, float]:
        values = sorted(self.values(name))
        return {f"p{percent}": _between(values, percent / 100) if values else 0.0 for percent in (50, 95, 99)}


def _between(values: list[float], share: float) -> float:
    place = share * (len(values) - 1)
    lower = int(place)
    upper = min(lower + 1, len(values) - 1)
    return values[lower] + (place - lower) * (values[upper] - values[lower])
