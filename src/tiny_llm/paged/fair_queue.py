"""Who waits, in turn: by priority, then the user who was served least, then the earliest deadline, then arrival.

Users are compared by virtual token counters ("Fairness in Serving Large Language Models", OSDI 2024, section 4).
"""

import math
from collections import UserDict
from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from itertools import count
from typing import NamedTuple

from tiny_llm_kit.course import task

from .request import PagedRequest

Line = tuple[int, str]  # priority and user

REMEMBERED = 10_000
"""Users whose counters are kept; beyond that, those for whom nobody waits are forgotten."""


class _Place(NamedTuple):
    """A request's place in its user's line. No two arrivals are equal, so requests are never compared."""

    deadline: float
    arrival: int
    request: PagedRequest


class _Head(NamedTuple):
    """The beginning of a line, as it was when this was made."""

    priority: int
    served: float
    arrival: int
    line: Line


class FairQueue(UserDict[int, PagedRequest]):
    """The waiting requests by id; `in_turn` gives the order in which they should be admitted.

    A user's counter is the number of tokens that have been computed for that user. Whoever comes back after a pause begins with
    the counter of the user who is served next: time that was not used is not saved up. Priorities are strict.

    Each line is a heap, and so are the beginnings of the lines, so that nothing here looks at everyone who waits. What has left
    or has changed is dropped when it comes to the top of its heap.
    """

    def __init__(self) -> None:
        super().__init__()
        self.served: dict[str, float] = {}
        self._arrivals = count()
        self._level = 0.0  # the counter of the user who was served last or is served next
        self._lines: dict[Line, list[_Place]] = {}
        self._place_of: dict[int, _Place] = {}  # a place that is not in here has been left
        self._heads: list[_Head] = []
        self._head_of: dict[Line, _Head] = {}  # the same for heads

    @task(week=3, day=4, number=2)
    def __setitem__(self, request_id: int, request: PagedRequest) -> None:
        """Let a request wait. One that was here before, and was preempted, keeps its arrival."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=2)
    def __delitem__(self, request_id: int) -> None:
        """Let a request go, wherever it stands."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=2)
    def charge(self, user: str, tokens: int) -> None:
        """Note that so many tokens have been computed for a user."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=2)
    def in_turn(self) -> Iterator[PagedRequest]:
        """Who should be admitted, first things first, as if each had been charged for its prompt when the next is chosen.

        Nothing that can be seen from outside changes; only as much is sorted as is asked for.
        """
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    def _waits(self, place: _Place) -> bool:
        return self._place_of.get(place.request.request_id) is place

    @task(week=3, day=4, number=2)
    def _welcome(self, user: str) -> None:
        """Lift the counter of a user who comes or comes back."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=2)
    def _renew(self, line: Line) -> None:
        """Put the present beginning of a line among the heads; an older one counts no more."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=2)
    def _settle(self) -> None:
        """Bring the first of the heads up to date. Counters only rise, so that all others come later still."""
        raise NotImplementedError("Week 3 Day 4, task 2: fair queueing. Read book/src/week3-04-token-budget-scheduler.md")
