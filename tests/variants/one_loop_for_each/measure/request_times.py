"""Arrivals first, then whatever happened to those who have arrived."""

from tiny_llm_kit.course import task

from ..event_log import BatchState, Event, EventKind


class RequestTimes:
    @property
    @task(week=2, day=7, number=1)
    def queue_time(self) -> float | None:
        if self.admitted is not None:
            return self.admitted - self.arrived
        return None

    @property
    @task(week=2, day=7, number=1)
    def ttft(self) -> float | None:
        return min(self.tokens) - self.arrived if len(self.tokens) > 0 else None

    @property
    @task(week=2, day=7, number=1)
    def tpot(self) -> float | None:
        try:
            return (self.ended - self.tokens[0]) / (self.generated - 1) if self.generated != 0 else None
        except (TypeError, IndexError, ZeroDivisionError):  # no end, no token, no gap
            return None

    @property
    @task(week=2, day=7, number=1)
    def inter_token_latencies(self) -> list[float]:
        return [self.tokens[i] - self.tokens[i - 1] for i in range(1, len(self.tokens))]

    @property
    @task(week=2, day=7, number=1)
    def latency(self) -> float | None:
        return self.ended - self.arrived if self.ended is not None else None


class RunRecorder:
    @task(week=2, day=7, number=1)
    def read(self, state: BatchState) -> None:
        self.ended = state.time
        self.steps, self.tokens = self.steps + 1, self.tokens + state.new_tokens
        self.offered_slots += state.max_slots
        self.used_slots += state.active_requests
        for event in state.events:
            if event.kind is EventKind.ARRIVED:
                times = RequestTimes(event.time, event.tokens)
                self.requests[event.request_id] = times
                if event.request_id in self._wanted:
                    times.arrived = self._wanted.pop(event.request_id)
                self._begin_by(times.arrived)
        for event in state.events:
            if event.request_id in self.requests:
                self._happened(self.requests[event.request_id], event)

    def _happened(self, times: RequestTimes, event: Event) -> None:
        match event.kind:
            case EventKind.ADMITTED:
                times.admitted = event.time if times.admitted is None else min(times.admitted, event.time)
            case EventKind.TOKEN | EventKind.FIRST_TOKEN:
                times.tokens += [event.time]
            case EventKind.PREEMPTED:
                times.preemptions = times.preemptions + 1
            case EventKind.FINISHED | EventKind.FAILED | EventKind.CANCELLED:
                times.end, times.ended, times.generated = event.kind, event.time, event.tokens

    @task(week=2, day=7, number=4)
    def wanted(self, request_id: int, time: float) -> None:
        times = self.requests.get(request_id)
        if times is None:
            self._wanted |= {request_id: time}
        else:
            times.arrived = time
            self._begin_by(time)
