"""The times of each request, read from the event log: TTFT, TPOT, inter-token latency, end to end, queue time."""

from dataclasses import dataclass, field
from itertools import pairwise

from tiny_llm_kit.course import task

from ..event_log import ENDS, BatchState, Event, EventKind


@dataclass
class RequestTimes:
    """When things happened to one request, in seconds on the log's clock; None for what has not happened.

    Args:
        arrived: when its client wanted it; see `RunRecorder.wanted`.
        prompt_tokens: its prompt's length.
        admitted: when it was first admitted.
        tokens: when each of its tokens came back, in order, including an EOS, as far as the log says: the log of a simulation
            has only the first one's time.
        ended, end: when and how it ended.
        generated: how many tokens it had generated at its end.
        preemptions: how often it was preempted.
    """

    arrived: float
    prompt_tokens: int = 0
    admitted: float | None = None
    tokens: list[float] = field(default_factory=list)
    ended: float | None = None
    end: EventKind | None = None
    generated: int = 0
    preemptions: int = 0

    @property
    @task(week=2, day=7, number=1)
    def queue_time(self) -> float | None:
        """Seconds from arrival to admission."""
        return None if self.admitted is None else self.admitted - self.arrived

    @property
    @task(week=2, day=7, number=1)
    def ttft(self) -> float | None:
        """Time to first token: seconds from arrival until the first token had come back."""
        return self.tokens[0] - self.arrived if self.tokens else None

    @property
    @task(week=2, day=7, number=1)
    def tpot(self) -> float | None:
        """Time per output token: seconds from the first token to the end, per generated token after the first; None before the
        end, and with fewer than two generated tokens."""
        if self.ended is None or self.generated < 2 or not self.tokens:
            return None
        return (self.ended - self.tokens[0]) / (self.generated - 1)

    @property
    @task(week=2, day=7, number=1)
    def inter_token_latencies(self) -> list[float]:
        """Seconds between each entry of `tokens` and the one before it, including that of an EOS: a step was spent on it.

        Empty if the log has at most one.
        """
        return [after - before for before, after in pairwise(self.tokens)]

    @property
    @task(week=2, day=7, number=1)
    def latency(self) -> float | None:
        """End to end: seconds from arrival to the end, however it ended."""
        return None if self.ended is None else self.ended - self.arrived


class RunRecorder:
    """Reads the log of a run, and keeps the times of every request and how full the steps were.

    Put it among the readers before the run: `engine.event_log.readers.append(recorder.read)`. It keeps everything, for a run
    that is analysed when it is over; a server keeps `BatchingMetrics` instead.
    """

    def __init__(self) -> None:
        self.requests: dict[int, RequestTimes] = {}  # by id, in the order of the log
        self.steps = 0
        self.tokens = 0  # tokens that came back and became part of an answer
        self.started: float | None = None  # the first arrival, as its client wanted it
        self.ended = 0.0  # the end of the last step
        self.used_slots = 0  # active requests, summed over the steps
        self.offered_slots = 0  # slots, summed over the steps
        self._wanted: dict[int, float] = {}  # of requests that are not in the log yet

    @task(week=2, day=7, number=1)
    def read(self, state: BatchState) -> None:
        """Take in one iteration. Events of a request whose arrival is not in the log are skipped."""
        for event in state.events:
            self._note(event)
        self.steps += 1
        self.tokens += state.new_tokens
        self.ended = state.time
        self.used_slots += state.active_requests
        self.offered_slots += state.max_slots

    @task(week=2, day=7, number=1)
    def _note(self, event: Event) -> None:
        if event.kind is EventKind.ARRIVED:
            arrived = self._wanted.pop(event.request_id, event.time)
            self.requests[event.request_id] = RequestTimes(arrived, prompt_tokens=event.tokens)
            self._begin_by(arrived)
            return
        times = self.requests.get(event.request_id)
        if times is None:  # its arrival was lost with an iteration that was interrupted
            return
        if event.kind is EventKind.ADMITTED and times.admitted is None:
            times.admitted = event.time
        elif event.kind in (EventKind.FIRST_TOKEN, EventKind.TOKEN):
            times.tokens.append(event.time)
        elif event.kind is EventKind.PREEMPTED:
            times.preemptions += 1
        elif event.kind in ENDS:
            times.ended, times.end, times.generated = event.time, event.kind, event.tokens

    @task(week=2, day=7, number=4)
    def wanted(self, request_id: int, time: float) -> None:
        """Note when a client wanted to send a request, which may be before the engine heard of it: that is when it arrived.

        It may be called before or after the log has the arrival.
        """
        if request_id in self.requests:
            self.requests[request_id].arrived = time
            self._begin_by(time)
        else:
            self._wanted[request_id] = time

    def _begin_by(self, time: float) -> None:
        """Note that a request had arrived at this time."""
        self.started = time if self.started is None else min(self.started, time)
