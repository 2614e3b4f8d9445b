"""Scheduling: what the next iteration computes, and which requests are served first.

Plain Python, no arrays: a plan is made from the requests' counters, and run elsewhere. Planning changes nothing.
Iteration-level scheduling is the idea of Orca (OSDI 2022, section 3).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from itertools import islice, takewhile

from tiny_llm_kit.course import task

from .request import Request


@dataclass(frozen=True)
class PrefillChunk:
    """Compute the prompt tokens `start` … `end` − 1 of a request."""

    request: Request
    start: int
    end: int


@dataclass(frozen=True)
class StepPlan:
    """One iteration: these prompt chunks, and one token for each of these requests."""

    prefill: list[PrefillChunk]
    decode: list[Request]


class Strategy(ABC):
    """Chooses which requests are admitted next. A strategy is a ranking: the lowest rank goes first, and among equals the
    earliest.

    A request that was overtaken `max_overtakes` times goes next whatever its rank, so none starves. The requests admitted in
    one iteration are chosen together, so a few more overtakings are possible.
    """

    max_overtakes = 32

    @abstractmethod
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        """A function that says how good it would be to admit a request alongside those that are running; lower is sooner.

        It is made once per plan and called for every waiting request: what depends only on `running` is computed here.
        """

    @task(week=2, day=6, number=8)
    def choose(self, waiting: Collection[Request], running: Sequence[Request], count: int) -> list[Request]:
        """The next `count` requests to admit, or as many as there are, in order of admission.

        Args:
            waiting: in order of arrival, so none has been overtaken more often than those before it.
            count: 0 or more.
        """
        starving = list(islice(takewhile(lambda request: request.overtaken >= self.max_overtakes, waiting), count))
        others = islice(waiting, len(starving), None)
        return starving + nsmallest(count - len(starving), others, key=self.ranking(running))


class Fifo(Strategy):
    """First come, first served."""

    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        """The same for all: arrival decides."""
        return lambda request: 0

    @task(week=2, day=6, number=8)
    def choose(self, waiting: Collection[Request], running: Sequence[Request], count: int) -> list[Request]:
        """The first `count`, without looking at the others: it costs the same however many wait."""
        return list(islice(waiting, count))


class ShortestRemaining(Strategy):
    """The least work first, which makes the mean latency small (and needs the guard against starvation)."""

    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        """Estimated remaining tokens: those of the prompt that have not been computed, and as many as may be generated."""
        return lambda request: len(request.prompt) - request.offset + request.max_tokens - len(request.generated_tokens)


class LengthBalance(Strategy):
    """Puts rows of similar length together: the shorter rows of a batch are padded to the longest one."""

    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        """Distance from the prompt's length to the mean length of the running sequences; 0 if nothing runs."""
        if not running:
            return lambda request: 0
        mean = sum(max(other.offset, len(other.prompt)) for other in running) / len(running)
        return lambda request: abs(len(request.prompt) - mean)


STRATEGIES: dict[str, type[Strategy]] = {
    "fifo": Fifo,
    "shortest-remaining": ShortestRemaining,
    "length-balance": LengthBalance,
}


@task(week=2, day=6, number=4)
def plan_step(
    waiting: Collection[Request], running: Sequence[Request], max_slots: int, prefill_step: int, strategy: Strategy
) -> StepPlan:
    """Plan one iteration: every request that decodes gets a token, and up to `prefill_step` prompt tokens are computed
    alongside.

    At most one request is in the middle of its prompt. If its chunk leaves room in the budget, it is followed by whole prompts
    that fit into the rest, exactly or with room to spare; the first that does not fit ends the plan. A prompt is never started
    with a small left-over piece of the budget, because a chunk costs a pass over all the weights however short it is. A request
    is admitted only if a slot will be free for it.

    Args:
        waiting: in order of arrival.
        running: those that have a slot or need one; in order of admission.
        max_slots: how many may run at a time.
        prefill_step: most prompt tokens per iteration.
        strategy: chooses among the waiting; called once, for as many as there are free slots, and not at all if none is free.
    Returns:
        The plan; its `decode` is in the order of `running`.
    """
    decode: list[Request] = []
    candidates: list[Request] = []
    for request in running:
        (decode if request.offset >= len(request.prompt) else candidates).append(request)
    if free := max_slots - len(running):
        candidates += strategy.choose(waiting, running, free)
    chunks: list[PrefillChunk] = []
    budget = prefill_step
    for request in candidates:
        left = len(request.prompt) - request.offset
        if not budget or (chunks and left > budget):
            break
        end = request.offset + min(left, budget)
        chunks.append(PrefillChunk(request, request.offset, end))
        budget -= end - request.offset
    return StepPlan(chunks, decode)
