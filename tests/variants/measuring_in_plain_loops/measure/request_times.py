"""A recorder with a method for each kind of event."""

from tiny_llm_kit.course import task

from ..event_log import BatchState, Event, EventKind


class RequestTimes:
    @property
    @task(week=2, day=7, number=1)
    def queue_time(self) -> float | None:
        return self._since_arrival(self.admitted)

    @property
    @task(week=2, day=7, number=1)
    def ttft(self) -> float | None:
        return self._since_arrival(next(iter(self.tokens), None))

    @property
    @task(week=2, day=7, number=1)
    def tpot(self) -> float | None:
        first, latency = self.ttft, self.latency
        return (latency - first) / (self.generated - 1) if self.generated > 1 and None not in (first, latency) else None

    @property
    @task(week=2, day=7, number=1)
    def inter_token_latencies(self) -> list[float]:
        gaps, last = [], None
        for time in self.tokens:
            if last is not None:
                gaps.append(time - last)
            last = time
        return gaps

    @property
    @task(week=2, day=7, number=1)
    def latency(self) -> float | None:
        return self._since_arrival(self.ended)

    def _since_arrival(self, time: float | None) -> float | None:
        return time - self.arrived if time is not None else None


class RunRecorder:
    @task(week=2, day=7, number=1)
    def read(self, state: BatchState) -> None:
        methods = {
            EventKind.ADMITTED: self.admitted,
            EventKind.FIRST_TOKEN: self.token,
            EventKind.TOKEN: self.token,
            EventKind.PREEMPTED: self.preempted,
            EventKind.FINISHED: self.over,
            EventKind.CANCELLED: self.over,
            EventKind.FAILED: self.over,
        }
        for event in state.events:
            if event.kind is EventKind.ARRIVED:
                self.arrived(event)
            elif event.kind in methods and event.request_id in self.requests:
                methods[event.kind](self.requests[event.request_id], event)
        self.steps, self.tokens, self.ended = self.steps + 1, self.tokens + state.new_tokens, state.time
        self.used_slots, self.offered_slots = self.used_slots + state.active_requests, self.offered_slots + state.max_slots

    def arrived(self, event: Event) -> None:
        wanted = self._wanted.pop(event.request_id, event.time)
        self.requests[event.request_id] = RequestTimes(wanted, event.tokens)
        self._begin_by(wanted)

    def admitted(self, times: RequestTimes, event: Event) -> None:
        times.admitted = event.time if times.admitted is None else times.admitted

    def token(self, times: RequestTimes, event: Event) -> None:
        times.tokens = [*times.tokens, event.time]

    def preempted(self, times: RequestTimes, event: Event) -> None:
        times.preemptions += 1

    def over(self, times: RequestTimes, event: Event) -> None:
        times.ended, times.end, times.generated = event.time, event.kind, event.tokens
