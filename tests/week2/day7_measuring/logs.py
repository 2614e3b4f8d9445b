"""Logs that are made by hand: what an engine or a simulator would have told its readers."""

from collections.abc import Iterable, Sequence
from typing import Any

from answer import answer

ARRIVED = answer.EventKind.ARRIVED
ADMITTED = answer.EventKind.ADMITTED
PREFILL_CHUNK = answer.EventKind.PREFILL_CHUNK
FIRST_TOKEN = answer.EventKind.FIRST_TOKEN
TOKEN = answer.EventKind.TOKEN
PREEMPTED = answer.EventKind.PREEMPTED
FINISHED = answer.EventKind.FINISHED
CANCELLED = answer.EventKind.CANCELLED
FAILED = answer.EventKind.FAILED

FIGURES = ("queue_time", "ttft", "tpot", "latency")
MEANINGS = {
    "queue_time": "from arrived to admitted",
    "ttft": "from arrived to the first token",
    "tpot": "from the first token to the end, divided by the generated tokens after the first",
    "latency": "from arrived to the end",
}
"""What each figure of one request is."""

Told = tuple[Any, ...]
"""Time, kind, request, and for some kinds tokens and position."""


def state(time: float, events: Iterable[Told] = (), active: int = 0, slots: int = 4, new_tokens: int = 0, step: int = 0) -> Any:
    """An iteration that ends at `time`."""
    return answer.BatchState(time, active, slots, 0, new_tokens, [answer.Event(*event) for event in events], step)


def read(*states: Any) -> Any:
    """A recorder that was told of these iterations."""
    recorder = answer.RunRecorder()
    for told in states:
        recorder.read(told)
    return recorder


def told_of(*requests: Sequence[Told], at_once: int = 3) -> Any:
    """A recorder that was told of these requests' events, in the order of their times, this many in an iteration."""
    events = sorted((event for request in requests for event in request), key=lambda event: event[0])
    groups = [events[begin : begin + at_once] for begin in range(0, len(events), at_once)]
    return read(*(state(group[-1][0], group, step=step) for step, group in enumerate(groups)))


def life(
    request_id: int, arrived: float, tokens: Sequence[float], admitted: float | None = None, end: Any = FINISHED
) -> list[Told]:
    """A request whose tokens came back at these times, and that ended with the last of them, or when it was admitted."""
    admitted = arrived if admitted is None else admitted
    kinds = [FIRST_TOKEN, *[TOKEN] * len(tokens)]
    return [
        (arrived, ARRIVED, request_id, 5),
        (admitted, ADMITTED, request_id),
        *((time, kind, request_id) for time, kind in zip(tokens, kinds, strict=False)),
        ([admitted, *tokens][-1], end, request_id, len(tokens)),
    ]


def simulated(request_id: int, arrived: float, first_token: float, ended: float, tokens: int) -> list[Told]:
    """A request as a simulator tells of it, which spares an event for every token."""
    return [
        (arrived, ARRIVED, request_id, 5),
        (arrived, ADMITTED, request_id),
        (first_token, FIRST_TOKEN, request_id),
        (ended, FINISHED, request_id, tokens),
    ]
