"""The event log: all that happens to requests, in order. Metrics, timelines and the simulator read it and nothing else.

It keeps nothing: each iteration's events go to the readers when it is closed, and what they keep is their business. So the
memory of a server that runs for weeks is bounded.
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

    A chunk is logged when it is launched, and a token when it has come back, which is an iteration after its launch. The token
    that ends an answer without being part of it (EOS) is logged, too.

    Args:
        time: seconds on the engine's clock, which never goes back.
        tokens: of ARRIVED the prompt's length, of PREFILL_CHUNK the chunk's, and of an end the number of generated tokens.
        position: of PREFILL_CHUNK, how many tokens of the request are computed when the chunk is.
        step: the iteration in which it happened, counted from 0; what happens between two belongs to the next.
    """

    time: float
    kind: EventKind
    request_id: int
    tokens: int = 0
    position: int = 0
    step: int = 0


@dataclass(frozen=True, slots=True)
class BatchState:
    """What one iteration looked like from outside: an entry of the log.

    Args:
        time: seconds on the engine's clock, at the iteration's end.
        active_requests: requests that held a slot, or a claim on one, as the iteration's plan left them.
        max_slots: how many could have.
        queue_size: requests that the plan left waiting.
        new_tokens: tokens that came back in this iteration and became part of an answer.
        events: what happened since the last state.
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
        """Log that something happened just now."""
        self._events.append(Event(self.clock(), kind, request_id, tokens, position, self.step))

    def close_step(self, active: int, max_slots: int, queue_size: int, new_tokens: int) -> BatchState:
        """End an iteration: every reader is given its state, which is returned, too. For the arguments see `BatchState`."""
        events, self._events = self._events, []
        state = BatchState(self.clock(), active, max_slots, queue_size, new_tokens, events, self.step)
        self.step += 1
        for read in self.readers:
            read(state)
        return state
