"""The event log: everything that happens to requests, in order. Metrics, timelines and the simulator read only this.

It keeps nothing: when an iteration is closed, its events go to the readers, which decide what to keep. So a server can run for
weeks in bounded memory.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class EventKind(Enum):
    """What can happen to a request. The last three are the ways to end."""

    ARRIVED = "arrived"
    ADMITTED = "admitted"
    PREFILL_CHUNK = "prefill chunk"
    FIRST_TOKEN = "first token"
    TOKEN = "token"
    PREEMPTED = "preempted"
    FINISHED = "finished"
    CANCELLED = "cancelled"
    FAILED = "failed"


ENDS = {EventKind.FINISHED, EventKind.CANCELLED, EventKind.FAILED}


class Event(NamedTuple):
    """Something that happened to a request.

    A chunk is logged when it is launched, and a token when it has come back, one iteration after its launch. The token that
    ends an answer without being part of it (EOS) is logged, too.

    Args:
        time: seconds on the engine's clock, which never goes back.
        tokens: for ARRIVED the length of the prompt, for PREFILL_CHUNK that of the chunk, and for an end the number of
            generated tokens.
        position: for PREFILL_CHUNK, how many tokens of the request have been computed once this chunk has.
        step: the iteration in which it happened, counted from 0; what happens between two iterations belongs to the later one.
    """

    time: float
    kind: EventKind
    request_id: int
    tokens: int = 0
    position: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class BatchState:
    """What one iteration looked like from outside: one entry of the log.

    Args:
        time: seconds on the engine's clock, at the iteration's end.
        active_requests: requests that held a slot, or had a claim on one, after the iteration's plan.
        max_slots: how many requests could have held one.
        queue_size: requests still waiting after the plan.
        new_tokens: tokens that came back in this iteration and became part of an answer.
        events: what has happened since the previous state.
        step: the iteration's number, counted from 0.
    """

    time: float
    active_requests: int
    max_slots: int
    queue_size: int
    new_tokens: int
    events: Sequence[Event] = ()
    step: int = 0


class EventLog:
    """Collects events, and hands them to every reader at the end of their iteration.

    Args:
        clock: seconds; it must never go back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.readers: list[Callable[[BatchState], None]] = []
        self.step = 0
        self._events: list[Event] = []

    def record(self, kind: EventKind, request_id: int, tokens: int = 0, position: int = 0) -> None:
        """Log that something has just happened."""
        self._events.append(Event(self.clock(), kind, request_id, tokens, position, self.step))

    def close_step(self, active: int, max_slots: int, queue_size: int, new_tokens: int) -> BatchState:
        """End an iteration: pass its state to every reader, and return it. For the arguments see `BatchState`."""
        events, self._events = self._events, []
        state = BatchState(self.clock(), active, max_slots, queue_size, new_tokens, events, self.step)
        self.step += 1
        for read in self.readers:
            read(state)
        return state
