"""What it takes to decide which requests run next, however many wait: the scheduling of either engine, without a model.

A step here is the plan of an iteration, and what the queue does about it: the chosen request leaves it, and another one
arrives. Times are this thread's processor time, so other programs matter little, and medians over some steps.
"""

import gc
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import median
from types import ModuleType, SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np

from tiny_llm_kit.models.tiny_random import tiny_config

VOCABULARY = 16
SHORTEST, LONGEST = 8, 56
"""Tokens of a prompt. They are short, since a million of them have to be kept."""
ANSWER = 400
"""Most tokens of an answer: more than any request gets, so only those leave that are made to."""
PREFILL_STEP = 128
STEPS = 30
"""The most steps: after `Strategy.max_overtakes` admissions the overtaken request goes first, and there is nothing to
choose."""
FEWEST_STEPS = 5
SECONDS = 0.5
"""How long the steps of one case go on, unless they are fewer than `FEWEST_STEPS`."""
PROMPT_BUDGET = 1024
"""Prompt tokens per step of the paged engine."""
MOST_RUNNING = 4096
"""Until as many run, the first of them would have their whole answers."""


class NoModel:
    """No layers, and the same logits for every place that is kept."""

    config = SimpleNamespace(**{**asdict(tiny_config(vocab_size=VOCABULARY)), "num_layers": 0})

    def __call__(self, tokens: mx.array, *_: Any, logits_to_keep: mx.array, **__: Any) -> mx.array:
        return mx.zeros((1, logits_to_keep.size, VOCABULARY))


@dataclass(frozen=True)
class Decision:
    """Microseconds, with this many running and waiting requests.

    users: how many users' requests wait; each has its own user if that is more than there are; 0 if it does not matter.
    full: a plan while no seat is free. plan: one that fills a seat. queue: one request leaves the queue, another one joins it.
    """

    engine: str
    strategy: str
    users: int
    running: int
    waiting: int
    full: float
    plan: float
    queue: float
    steps: int

    @property
    def step(self) -> float:
        """A step in which one request is admitted."""
        return self.plan + self.queue


class Requests:
    """Requests of the paged engine, which the slot engine's scheduler takes, too. They are made once, and used over and over.

    A million are cheap enough if the garbage collector leaves them alone: about 5 µs and 1.2 KB each.
    """

    def __init__(self, answer: ModuleType, count: int) -> None:
        self.answer = answer
        self._tokens = np.random.default_rng(0).integers(0, VOCABULARY, size=4096).tolist()
        self._made = 0
        with no_collector():
            self._all = [self.new() for _ in range(count)]

    def new(self, users: int = 1) -> Any:
        """One more, from one of this many users."""
        number = self._made = self._made + 1
        start, length = number * 7919 % (len(self._tokens) - LONGEST), SHORTEST + number * 104_729 % (LONGEST - SHORTEST + 1)
        most = ANSWER - number * 15_485_863 % 100
        return self.answer.PagedRequest(self._tokens[start : start + length], most, user=f"user {number % users}")

    def fresh(self, count: int, users: int = 1) -> list[Any]:
        """This many requests that have not been served, from this many users in turn."""
        with no_collector():
            for number, request in enumerate(self._all[:count]):
                if request.finish_reason is not None or request.blocks:
                    self._all[number] = self.new(users)
                else:
                    request.user, request.arrival, request.overtaken, request.offset = f"user {number % users}", None, 0, 0
        return self._all[:count]


@contextmanager
def no_collector() -> Iterator[None]:
    """The garbage collector does not walk through all objects again and again while a million more are made; afterwards it
    leaves these alone, too."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


def slot_decision(answer: ModuleType, requests: Requests, strategy: str, running: int, waiting: int) -> Decision:
    """Time the slot engine's `plan_step`, and the queue of its book."""
    book = answer.RequestBook(LONGEST + ANSWER, VOCABULARY)
    fresh = requests.fresh(running + waiting)
    book.running = {request.request_id: _decoding(request) for request in fresh[:running]}
    book.waiting = OrderedDict((request.request_id, request) for request in fresh[running:])
    chooses = answer.STRATEGIES[strategy]()

    def plan() -> Any:
        return answer.plan_step(book.waiting.values(), claims, running, PREFILL_STEP, chooses)

    def exchange() -> None:
        book.admit(chosen)
        book.waiting[leaver.request_id] = leaver

    claims = list(book.running.values())
    timings = _Timings()
    timings.full = [_timed(plan)[0] for _ in range(STEPS)]
    for _ in _some_steps():
        claims = list(book.running.values())
        leaver = claims.pop(0)
        del book.running[leaver.request_id]
        leaver.offset = leaver.overtaken = 0
        seconds, planned = _timed(plan)
        timings.plan.append(seconds)
        chosen = planned.prefill[0].request
        timings.queue.append(_timed(exchange)[0])
        _decoding(chosen)
    return timings.decision("slots", strategy, 0, running, waiting)


class PagedDecisions:
    """Times the paged engine's `Scheduler` and `FairQueue`, with blocks, a prefix cache, and an engine around them.

    The engine grows: ask for few running requests first.

    Args:
        waiting: how many wait at any time.
        users: whose requests wait.
    """

    def __init__(self, answer: ModuleType, requests: Requests, waiting: int, users: int, most_running: int) -> None:
        self.answer = answer
        self.requests = requests
        self.waiting = waiting
        self.users = users
        self.watch = _Stopwatch()
        blocks = answer.blocks_for(LONGEST + ANSWER, 16) + 1
        self.engine = answer.Engine(NoModel(), num_blocks=most_running * blocks, max_num_seqs=1)
        self.engine.waiting = _watched_queue(answer, self.watch)
        with no_collector():
            for request in requests.fresh(waiting, users):
                self.engine.submit(request)

    def measure(self, running: int) -> Decision:
        """Time steps in which this many run."""
        self._let_run(running)
        timings = _Timings()
        for _ in _some_steps():
            timings.full.append(self._step()[0])
            self.engine.cancel(next(iter(self.engine.running.values())))
            self.watch.queue = 0.0
            self._top_up()
            plan, queue = self._step()
            timings.plan.append(plan)
            timings.queue.append(queue)
        return timings.decision("paged", "fair", self.users, running, self.waiting)

    def _let_run(self, running: int) -> None:
        """This many run, all of them past their prompts, and the others wait."""
        self.engine.scheduler = _Watched(self.answer.Scheduler(running, running + PROMPT_BUDGET), self.watch)
        while len(self.engine.running) < running or any(r.to_compute > 1 for r in self.engine.running.values()):
            self._top_up(running - len(self.engine.running))
            self.engine.step()
        self._top_up()

    def _step(self) -> tuple[float, float]:
        """Seconds of the plan, and of the queue since it was last set to 0."""
        self.engine.step()
        return self.watch.plan, self.watch.queue

    def _top_up(self, seats: int = 0) -> None:
        """Enough waiting requests that one is left when `seats` of them are gone."""
        while len(self.engine.waiting) < self.waiting + seats + 1:
            self.engine.submit(self.requests.new(self.users))


@dataclass
class _Stopwatch:
    plan: float = 0.0
    queue: float = 0.0


class _Watched:
    """A scheduler whose last plan's time is kept."""

    def __init__(self, scheduler: Any, watch: _Stopwatch) -> None:
        self.scheduler = scheduler
        self.max_num_seqs = scheduler.max_num_seqs
        self.watch = watch

    def plan(self, *arguments: Any) -> Any:
        self.watch.plan, plan = _timed(lambda: self.scheduler.plan(*arguments))
        return plan


def _watched_queue(answer: ModuleType, watch: _Stopwatch) -> Any:
    """A queue that adds up the time in which requests come and go."""

    class Watched(answer.FairQueue):  # type: ignore[name-defined]
        def __setitem__(self, request_id: int, request: Any) -> None:
            watch.queue += _timed(lambda: super(Watched, self).__setitem__(request_id, request))[0]

        def __delitem__(self, request_id: int) -> None:
            watch.queue += _timed(lambda: super(Watched, self).__delitem__(request_id))[0]

    return Watched()


def _timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of this thread's processor time, and what came of it."""
    started = time.thread_time()
    result = call()
    return time.thread_time() - started, result


def _some_steps() -> Iterator[int]:
    started = time.thread_time()
    for step in range(STEPS):
        if step >= FEWEST_STEPS and time.thread_time() - started > SECONDS:
            return
        yield step


def _decoding(request: Any) -> Any:
    request.offset = len(request.prompt)
    return request


class _Timings:
    """Seconds of each part of a step, over the steps."""

    def __init__(self) -> None:
        self.full: list[float] = []
        self.plan: list[float] = []
        self.queue: list[float] = []

    def decision(self, engine: str, strategy: str, users: int, running: int, waiting: int) -> Decision:
        full, plan, queue = (median(times) * 1e6 for times in (self.full, self.plan, self.queue))
        return Decision(engine, strategy, users, running, waiting, full, plan, queue, len(self.plan))
