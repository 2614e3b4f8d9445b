"""Scheduling: what the next iteration computes, and who is served first.

Plain Python, no arrays: a plan is made from the requests' counters, and somebody else runs it. Iteration-level scheduling is
the idea of Orca (OSDI 2022, section 4.1).
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

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
    """Chooses who is admitted next. A strategy is a `rank`: the lowest goes first, and among equals who came first.

    A request that was overtaken `max_overtakes` times goes next whatever its rank, so that nobody starves.
    """

    max_overtakes = 32

    @abstractmethod
    def rank(self, request: Request, running: Sequence[Request]) -> float:
        """How well it would be to admit `request` now, beside those that are running; lower is sooner."""

    @task(week=2, day=6, number=8)
    def choose(self, waiting: Sequence[Request], running: Sequence[Request]) -> Request:
        """The next request to admit; `waiting` is in order of arrival and not empty.

        Those that stand before the chosen one are overtaken, and it is counted, each time that a choice is made.
        """
        raise NotImplementedError("Week 2 Day 6, task 8: scheduling strategies. Read book/src/week2-06-continuous-batching.md")


class Fifo(Strategy):
    """First come, first served."""

    @task(week=2, day=6, number=8)
    def rank(self, request: Request, running: Sequence[Request]) -> float:
        """The same for all, so that arrival decides."""
        raise NotImplementedError("Week 2 Day 6, task 8: scheduling strategies. Read book/src/week2-06-continuous-batching.md")


class ShortestRemaining(Strategy):
    """The least work first, which makes the mean latency small (and needs the guard against starvation)."""

    @task(week=2, day=6, number=8)
    def rank(self, request: Request, running: Sequence[Request]) -> float:
        """Estimated tokens remaining: the prompt's that are not computed, and as many as may be generated."""
        raise NotImplementedError("Week 2 Day 6, task 8: scheduling strategies. Read book/src/week2-06-continuous-batching.md")


class LengthBalance(Strategy):
    """Rows of like length together: the shorter rows of a batch are padded to the longest one's."""

    @task(week=2, day=6, number=8)
    def rank(self, request: Request, running: Sequence[Request]) -> float:
        """Distance from the prompt's length to the mean length of the running sequences; 0 if nothing runs."""
        raise NotImplementedError("Week 2 Day 6, task 8: scheduling strategies. Read book/src/week2-06-continuous-batching.md")


STRATEGIES: dict[str, type[Strategy]] = {
    "fifo": Fifo,
    "shortest-remaining": ShortestRemaining,
    "length-balance": LengthBalance,
}


@task(week=2, day=6, number=4)
def plan_step(
    waiting: Sequence[Request], running: Sequence[Request], max_slots: int, prefill_step: int, strategy: Strategy
) -> StepPlan:
    """Plan one iteration: everyone who decodes gets a token, and up to `prefill_step` prompt tokens are computed beside.

    At most one request is in the middle of its prompt. When its chunk leaves room in the budget, whole prompts follow that
    fit into the rest; a prompt is never begun with a left-over crumb, because a chunk costs a pass over all the weights
    however short it is. A request is admitted only if a slot will be free for it.

    Args:
        waiting: in order of arrival.
        running: admitted and not done; in order of admission.
        max_slots: how many may run at a time.
        prefill_step: prompt tokens an iteration.
        strategy: chooses among the waiting.
    """
    raise NotImplementedError("Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md")
