"""A clock on which time passes only when a test says so, with a server without a model that takes its time on it."""

from collections.abc import Callable, Sequence
from typing import Any

from answer import answer

MOST_SLEEPS = 5_000
MOST_STEPS = 5_000


class FakeClock:
    """Call it for the time in seconds. Times in eighths add up without rounding.

    Args:
        sleeps: how long a sleeper really sleeps that asks for this many seconds.
    """

    def __init__(self, now: float = 64.0, sleeps: Callable[[float], float] = lambda seconds: seconds) -> None:
        self.now = now
        self.sleeps = sleeps
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def pass_by(self, seconds: float) -> None:
        """Something takes this many seconds."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        """As `time.sleep`, on this clock."""
        assert 0 <= seconds < 1e6, f"sleep was asked for {seconds} seconds"
        self.slept.append(seconds)
        assert len(self.slept) < MOST_SLEEPS, f"sleep was called {MOST_SLEEPS} times, the last time for {seconds} seconds"
        self.pass_by(self.sleeps(seconds))


class TimedServer(answer.RequestBook):  # type: ignore[misc, name-defined]
    """Serves requests in their order, without a model. A step takes its time, and yields a token for each request that runs.

    Args:
        slots: how many run at a time.
        seconds: of each step, by its number.
        waits: for how long it does nothing when it could begin with a request, as an engine does that hopes for more of them.
    """

    def __init__(
        self, clock: FakeClock, slots: int = 2, seconds: Callable[[int], float] = lambda step: 1.0, waits: float = 0.0
    ) -> None:
        super().__init__(512, 256, clock)
        self.fake_clock, self.slots, self.seconds, self.waits = clock, slots, seconds, waits
        self.begins: float | None = None  # not before, since a request came when there was none
        self.steps = 0
        self.idle_steps = 0
        self.states: list[Any] = []
        self.event_log.readers.append(self.states.append)

    def submit(self, request: Any) -> Any:
        was_empty = not self.waiting and not self.running
        super().submit(request)
        if was_empty and self.waits:
            self.begins = self.clock() + self.waits
        return request

    @property
    def idle_until(self) -> float | None:
        if self.begins is None or self.running or not self.waiting or self.clock() >= self.begins:
            return None
        return self.begins

    def step(self) -> list[Any]:
        self.idle_steps += self.idle_until is not None or not self.has_work
        assert self.idle_steps < MOST_STEPS, (
            f"step was called {MOST_STEPS} times with nothing to do, so time does not pass: sleep until something happens"
        )
        if self.idle_until is not None:
            return []
        with self.iteration():
            for request in list(self.waiting.values())[: self.slots - len(self.running)]:
                self.admit(request)
            active, queue_size = len(self.running), len(self.waiting)
            self.fake_clock.pass_by(self.seconds(self.steps))
            self.steps += 1
            new_tokens = sum(self.take(request, 65) for request in list(self.running.values()))
        return self.close_iteration(active, self.slots, queue_size, new_tokens)  # type: ignore[no-any-return]

    def times(self, kind: str, *requests: Any) -> list[float]:
        """When something, such as "ARRIVED", happened first to each of these."""
        happened = {}
        for event in (event for state in self.states for event in state.events if event.kind is answer.EventKind[kind]):
            happened.setdefault(event.request_id, event.time)
        missing = [request.request_id for request in requests if request.request_id not in happened]
        assert not missing, (
            f"the log does not tell of {kind} for requests {missing}: were they submitted, and served to the end?"
        )
        return [happened[request.request_id] for request in requests]


class Recorder:
    """Notes when requests were wanted, as a `RunRecorder` does."""

    def __init__(self) -> None:
        self.wanted_at: dict[int, float] = {}

    def wanted(self, request_id: int, time: float) -> None:
        self.wanted_at[request_id] = time

    def of(self, requests: Sequence[Any]) -> list[float]:
        missing = [request.request_id for request in requests if request.request_id not in self.wanted_at]
        assert not missing, f"recorder.wanted was not told of requests {missing}: it hears of every request"
        return [self.wanted_at[request.request_id] for request in requests]
