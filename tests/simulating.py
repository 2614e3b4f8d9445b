"""What the tests of simulators share: costs that can be added up by hand, workloads, and what a simulation told the log."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch
from weakref import WeakSet

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from tiny_llm_kit.workloads.items import WorkItem

TICK = 1 / 1024
"""Times are multiples of it, so that sums are exact in floating point and can be compared with ==."""

Call = answer.Call


@dataclass
class Cost:
    """So many seconds per launch, per call, and per token, key and pair in it; it notes what it is asked.

    launch_waits: see `CostModel`.
    """

    per_launch: float = 0.0
    per_call: float = 0.0
    per_token: float = 0.0
    per_output: float = 0.0
    per_key: float = 0.0
    per_pair: float = 0.0
    launch_waits: bool = False
    launches: list[list[Any]] = field(default_factory=list)

    def seconds(self, calls: Sequence[Any]) -> float:
        if not calls:
            return 0.0
        self.launches.append(list(calls))
        tokens, outputs, keys, pairs = map(sum, zip(*calls, strict=True))
        weighted = tokens * self.per_token + outputs * self.per_output + keys * self.per_key + pairs * self.per_pair
        return self.per_launch + len(calls) * self.per_call + weighted

    @property
    def calls(self) -> list[Any]:
        """All calls, one after another."""
        return [call for launch in self.launches for call in launch]


def dear(launch_waits: bool = False) -> Cost:
    """A cost in which everything that a call computes shows."""
    return Cost(0.0, 8 * TICK, TICK, 2 * TICK, TICK / 16, TICK / 256, launch_waits)


class Story:
    """A reader of the log: what was told of requests 0, 1, 2, … in the order in which they arrived."""

    def __init__(self) -> None:
        self.states: list[Any] = []
        self._wishes: list[tuple[int, float]] = []
        self._numbers: dict[int, int] = {}

    def read(self, state: Any) -> None:
        self.states.append(state)
        for event in state.events:
            self._numbers.setdefault(event.request_id, len(self._numbers))

    def wanted(self, request_id: int, time: float) -> None:
        self._wishes.append((request_id, time))

    @property
    def wishes(self) -> list[tuple[int, float]]:
        """When each client wanted to send its request, by number."""
        return [(self._numbers[request_id], time) for request_id, time in self._wishes]

    @property
    def events(self) -> list[Any]:
        """With numbers for ids, and without the tokens after the first, which only engines tell of."""
        told = [event for state in self.states for event in state.events if event.kind is not answer.EventKind.TOKEN]
        return [event._replace(request_id=self._numbers[event.request_id]) for event in told]

    def times(self, kind: str) -> dict[int, float]:
        """When this happened to each request."""
        return {event.request_id: event.time for event in self.events if event.kind is answer.EventKind[kind]}

    def steps(self, kind: str) -> dict[int, int]:
        """In which iteration this happened to each request."""
        return {event.request_id: event.step for event in self.events if event.kind is answer.EventKind[kind]}

    @property
    def shape(self) -> list[tuple[int, int, int]]:
        """For each iteration: how many were active, how many waited, and the tokens that came back."""
        return [(state.active_requests, state.queue_size, state.new_tokens) for state in self.states]

    @property
    def utilization(self) -> tuple[int, int]:
        """Slots in use and slots there, summed over the iterations."""
        return sum(state.active_requests for state in self.states), sum(state.max_slots for state in self.states)


def items(*requests: Sequence[float]) -> list[WorkItem]:
    """Requests of (prompt tokens, tokens of the answer) or (prompt tokens, tokens of the answer, arrival)."""
    made = []
    for number, (prompt, answer_tokens, *arrival) in enumerate(requests):
        tokens = tuple((7 * number + place) % 97 for place in range(int(prompt)))
        made.append(WorkItem(tokens, int(answer_tokens), arrival[0] if arrival else 0.0))
    return made


def random_items(seed: int, count: int = 14, longest: int = 30, answers: int = 9) -> list[WorkItem]:
    """Random prompts, answers, and gaps: some come together, some after all others have gone."""
    random = np.random.default_rng(seed)
    moments = np.cumsum(random.choice([0, 0, 1, 30, 150, 2500], size=count)).tolist()
    lengths = random.integers(1, longest, count, endpoint=True).tolist()
    answer_tokens = random.integers(1, answers, count, endpoint=True).tolist()
    return items(*zip(lengths, answer_tokens, (moment * TICK for moment in moments), strict=True))


def play(simulator: Callable[..., None], arrivals: Iterable[WorkItem], cost: Any, *sizes: Any, **options: Any) -> Story:
    """What a simulator tells."""
    story = Story()
    simulator(iter(arrivals), cost, *sizes, readers=[story.read], wanted=story.wanted, **options)
    return story


class Enough(Exception):
    """Raised by a reader, to leave a simulation that would never end."""


@contextmanager
def counting_requests() -> Iterator[Callable[[], int]]:
    """In this block: how many of the requests that were made in it are still in memory."""
    made: WeakSet[Any] = WeakSet()
    init = answer.Request.__init__

    def noted(self: Any, *args: Any, **options: Any) -> None:
        init(self, *args, **options)
        made.add(self)

    def alive() -> int:
        gc.collect()
        return len(made)

    with patch.object(answer.Request, "__init__", noted):
        yield alive


MOST_TAKEN = 10_000


def endless(gap: float = 1.0) -> Iterator[WorkItem]:
    """Small requests, one every `gap` seconds: more than any test needs, and an answer that takes them all is told so."""
    for number in range(MOST_TAKEN):
        yield WorkItem((1, 2, 3), 2, number * gap)
    raise AssertionError(
        f"{MOST_TAKEN:,} requests were taken from the iterator, and the simulation has not come that far: take none before it"
        " is needed, there may be any number"
    )


class Second:
    """Every launch takes a second, and nothing is noted."""

    launch_waits = False

    def seconds(self, calls: Sequence[Any]) -> float:
        return 1.0


def growth(simulator: Callable[..., None]) -> int:
    """By how many the objects in memory become more over 500 iterations with small requests; numbers are not counted."""
    counts: list[int] = []

    def read(state: Any) -> None:
        if state.step in (100, 600):
            gc.collect()
            counts.append(len(gc.get_objects()))
        if len(counts) == 2:
            raise Enough

    try:
        simulator(endless(), Second(), 3, readers=[read])
    except Enough:
        return counts[1] - counts[0]
    raise AssertionError("a simulation of requests that never cease to come was over all the same")


def assert_taken_one_by_one(simulator: Callable[..., None], gap: float) -> None:
    """From requests that come every `gap` seconds, none is taken from the iterator long before it comes."""
    taken = 0

    def counted() -> Iterator[WorkItem]:
        nonlocal taken
        for item in endless(gap):
            taken += 1
            yield item

    def read(state: Any) -> None:
        assert taken <= state.time / gap + 2, (
            f"{taken} requests were taken from the iterator by second {state.time}, and one comes every {gap} seconds: look at"
            " no more than the next one, there may be a million"
        )
        if state.time > 300:
            raise Enough

    with pytest.raises(Enough):
        simulator(counted(), Cost(per_launch=1), 3, readers=[read])


def assert_ended_are_forgotten(simulator: Callable[..., None]) -> None:
    """Requests that have ended do not stay in memory."""

    def read(state: Any) -> None:
        if state.step == 600:
            assert alive() <= 10, (
                f"{alive()} requests are still in memory after {state.step} iterations, and no more than three run at a time:"
                " drop those that have ended"
            )
            raise Enough

    with counting_requests() as alive, pytest.raises(Enough):
        simulator(endless(), Cost(per_launch=1), 3, readers=[read])


def assert_nothing_grows(simulator: Callable[..., None]) -> None:
    """Nothing is kept of iterations that are over."""
    grown = growth(simulator)
    assert grown < 100, (
        f"after 500 more iterations there are {grown} objects more in memory: keep no state, no event and no call of what is"
        " over, since there may be a million requests"
    )


class PricedModel:
    """A model that moves a clock by what each of its calls costs, before it answers: launching waits."""

    def __init__(self, model: Any, cost: Cost) -> None:
        self.model = model
        self.config = model.config
        self.cost = cost
        self.now = 0.0

    def clock(self) -> float:
        return self.now

    def __call__(self, tokens: mx.array, offset: Any, cache: Any, mask: Any = None, logits_to_keep: Any = None) -> mx.array:
        rows, length = tokens.shape
        keys = int(mx.max(mx.array(offset)).item()) + length
        kept = length if logits_to_keep is None else logits_to_keep
        self.now += self.cost.seconds([Call(rows * length, rows * kept, rows * keys, rows * length * keys)])
        return self.model(tokens, offset, cache, mask, logits_to_keep)


def serve(engine: Any, arrivals: Sequence[WorkItem], priced: PricedModel) -> Story:
    """What an engine tells, whose clients send each request when its time has come."""
    story, coming = Story(), list(arrivals)
    engine.event_log.readers.append(story.read)
    while coming or engine.has_work:
        if not engine.has_work:
            priced.now = max(priced.now, coming[0].arrival)
        while coming and coming[0].arrival <= priced.now:
            item = coming.pop(0)
            engine.submit(answer.Request(item.prompt, item.max_tokens))
        engine.step()
    return story
