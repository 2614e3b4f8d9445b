"""The waiting requests in the order of their turns: by priority, then the least served user, then the earliest deadline, then
arrival.

Users are compared by virtual token counters ("Fairness in Serving Large Language Models", OSDI 2024, section 4).
"""

import math
from collections import UserDict, defaultdict
from collections.abc import Iterator, Mapping
from heapq import heapify, heappop, heappush, heapreplace
from itertools import count
from typing import NamedTuple

from sortedcontainers import SortedList

from tiny_llm_kit.course import task

from .request import PagedRequest

REMEMBERED = 10_000
"""Beyond this many, the counters of users who have no waiting request are forgotten."""


class FairQueue(UserDict[int, PagedRequest]):
    """The waiting requests by id; `in_turn` gives the order in which they should be admitted.

    Priorities are strict. Within a priority each user has a counter, the number of tokens that have been computed for that
    user, and the user with the lowest counter is next. A user who is new, or comes back after a pause, begins with at least the
    counter of the user who is next, or was the last to be: unused time is not saved up.

    A request keeps its priority, user and deadline as long as it waits. To keep users who come only once from filling the
    memory, at most `REMEMBERED` counters per priority are kept in addition to those of the waiting users.
    """

    def __init__(self) -> None:
        super().__init__()
        self._arrivals = count()
        self._priorities = defaultdict[int, _Priority](_Priority)

    @task(week=3, day=4, number=2)
    def __setitem__(self, request_id: int, request: PagedRequest) -> None:
        """Let a request wait. A request that was here before, and was preempted, keeps its arrival."""
        super().__setitem__(request_id, request)
        if request.arrival is None:
            request.arrival = next(self._arrivals)
        self._priorities[request.priority].add(request)

    @task(week=3, day=4, number=2)
    def __delitem__(self, request_id: int) -> None:
        """Remove a request, wherever it is in line."""
        request = self[request_id]
        super().__delitem__(request_id)
        self._priorities[request.priority].remove(request)

    @task(week=3, day=4, number=2)
    def charge(self, request: PagedRequest, tokens: int) -> None:
        """Note that this many tokens have been computed for a request's user, at its priority."""
        self._priorities[request.priority].charge(request.user, tokens)

    @task(week=3, day=4, number=2)
    def in_turn(self) -> Iterator[PagedRequest]:
        """The requests to admit, in order, as if each had been charged for its prompt before the next is chosen.

        Nothing changes that can be seen from outside. Only as many are put in order as are asked for, and no request may come
        or go in the meantime.
        """
        for priority in sorted(self._priorities):
            yield from self._priorities[priority].in_turn()

    def mend(self) -> None:
        """Rebuild the lines: an interrupt may have come in the middle of a change."""
        # The least served user comes first: otherwise the counters of others, who come before, would lift theirs.
        requests = sorted(self.data.values(), key=lambda request: self._priorities[request.priority].served(request.user))
        self.data = {}
        for priority in self._priorities.values():
            priority.clear()
        for request in requests:
            self[request.request_id] = request


class _Place(NamedTuple):
    """A request's place in its user's line. No two arrivals are equal, so requests are never compared."""

    deadline: float
    arrival: int
    request: PagedRequest


def _place(request: PagedRequest) -> _Place:
    assert request.arrival is not None
    return _Place(math.inf if request.deadline is None else request.deadline, request.arrival, request)


_Head = tuple[int, _Place, int]
"""A user's counter and first place, and its index in the heap, for as long as what is below it has not been looked at."""

_LOOKED_BELOW = -1


class _Priority:
    """The requests waiting at one priority: a sorted line for each user, and the users' counters.

    The next turn comes from a heap of counters and first places, each as it was when it was put there. Counters only rise, and
    whenever a line gets another first place, that is put there, too. So no turn comes earlier than the heap says, and it is
    enough to bring the top up to date. Nothing here goes through all waiting requests, or all users.
    """

    def __init__(self) -> None:
        self._served: dict[str, int] = {}
        self._level = 0  # counter of the user who is next, or was the last to be
        self._lines: dict[str, SortedList] = {}  # of places
        self._heads: list[_Head] = []

    def served(self, user: str) -> int:
        """A user's counter; 0 if the user is unknown."""
        return self._served.get(user, 0)

    def clear(self) -> None:
        """Remove all requests. The counters stay."""
        self._lines, self._heads = {}, []

    @task(week=3, day=4, number=2)
    def add(self, request: PagedRequest) -> None:
        """Put a request into its user's line."""
        user, place = request.user, _place(request)
        if user not in self._lines:
            self._settle()
            self._served[user] = max(self._served.get(user, 0), self._level)
            self._lines[user] = SortedList()
        self._lines[user].add(place)
        if self._lines[user][0] is place:
            self._put(place)

    @task(week=3, day=4, number=2)
    def remove(self, request: PagedRequest) -> None:
        """Take a request out of its user's line."""
        self._settle()
        line = self._lines[request.user]
        at = line.bisect_left(_place(request))
        del line[at]
        if not line:
            del self._lines[request.user]
        elif at == 0:
            self._put(line[0])

    @task(week=3, day=4, number=2)
    def charge(self, user: str, tokens: int) -> None:
        """Raise a user's counter."""
        self._served[user] = self._served.get(user, self._level) + tokens
        if len(self._served) > REMEMBERED + len(self._lines):
            self._served = {user: self._served[user] for user in self._lines}

    @task(week=3, day=4, number=2)
    def in_turn(self) -> Iterator[PagedRequest]:
        """See `FairQueue.in_turn`."""
        self._settle()
        heads, taken, charged = self._top(0), dict[str, int](), dict[str, int]()
        while head := self._first(heads, taken, charged):
            served, (_, _, request), _ = head
            yield request
            user = request.user
            taken[user] = taken.get(user, 0) + 1
            charged[user] = charged.get(user, 0) + len(request.prompt)
            if taken[user] < len(self._lines[user]):
                heappush(heads, (served + len(request.prompt), self._lines[user][taken[user]], _LOOKED_BELOW))

    @task(week=3, day=4, number=2)
    def _first(self, heads: list[_Head], taken: Mapping[str, int], charged: Mapping[str, int]) -> _Head | None:
        """The first of a heap, which is brought up to date for that, if from each user this many requests are `taken`, and this
        many more tokens `charged`. The heap may be only the top of the one that is kept; it grows as it is read."""
        while heads:
            served, place, at = heads[0]
            if at != _LOOKED_BELOW:
                heapreplace(heads, (served, place, _LOOKED_BELOW))
                for head in self._top(2 * at + 1) + self._top(2 * at + 2):
                    heappush(heads, head)
                continue
            user = place.request.user
            line, next_place = self._lines.get(user, ()), taken.get(user, 0)
            if next_place >= len(line) or place is not line[next_place]:
                heappop(heads)
                continue
            now = self._served[user] + charged.get(user, 0)
            if served == now:
                return heads[0]
            heapreplace(heads, (now, place, _LOOKED_BELOW))
        return None

    @task(week=3, day=4, number=2)
    def _top(self, at: int) -> list[_Head]:
        """The entry at this index of the heap, as a heap of its own; empty beyond its end."""
        return [(served, place, at) for served, place, _ in self._heads[at : at + 1]]

    @task(week=3, day=4, number=2)
    def _settle(self) -> None:
        """Find the level."""
        if head := self._first(self._heads, {}, {}):
            self._level = head[0]

    @task(week=3, day=4, number=2)
    def _put(self, place: _Place) -> None:
        """Put a first place among the heads, and rebuild them when most are out of date."""
        heappush(self._heads, (self._served[place.request.user], place, _LOOKED_BELOW))
        if len(self._heads) > 2 * len(self._lines) + 16:
            self._heads = [(self._served[user], line[0], _LOOKED_BELOW) for user, line in self._lines.items()]
            heapify(self._heads)
