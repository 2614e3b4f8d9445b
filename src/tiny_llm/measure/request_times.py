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
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=1)
    def ttft(self) -> float | None:
        """Time to first token: seconds from arrival until the first token had come back."""
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=1)
    def tpot(self) -> float | None:
        """Time per output token: seconds from the first token to the end, per generated token after the first; None before the
        end, and with fewer than two generated tokens."""
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=1)
    def inter_token_latencies(self) -> list[float]:
        """Seconds between each entry of `tokens` and the one before it, including that of an EOS: a step was spent on it.

        Empty if the log has at most one.
        """
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=1)
    def latency(self) -> float | None:
        """End to end: seconds from arrival to the end, however it ended."""
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")


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
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=1)
    def _note(self, event: Event) -> None:
        raise NotImplementedError("Week 2 Day 7, task 1: what a request lived through. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=4)
    def wanted(self, request_id: int, time: float) -> None:
        """Note when a client wanted to send a request, which may be before the engine heard of it: that is when it arrived.

        It may be called before or after the log has the arrival.
        """
        raise NotImplementedError("Week 2 Day 7, task 4: open and closed loops. Read book/src/week2-07-measuring.md")

    def _begin_by(self, time: float) -> None:
        """Note that a request had arrived at this time."""
        self.started = time if self.started is None else min(self.started, time)
