from bisect import bisect_left, insort
from collections.abc import Iterator
from contextlib import contextmanager
from heapq import heappop, heappush

from sortedcontainers import SortedList

from tiny_llm_kit.course import task

from .request import PagedRequest


class FairQueue:
    @task(week=3, day=4, number=2)
    def __setitem__(self, request_id: int, request: PagedRequest) -> None:
        if request_id in self.data:
            del self[request_id]
        if request.arrival is None:
            request.arrival = next(self._arrivals)
        self.data[request_id] = request
        self._priorities[request.priority].add(request)

    @task(week=3, day=4, number=2)
    def __delitem__(self, request_id: int) -> None:
        request = self.data.pop(request_id)
        self._priorities[request.priority].remove(request)

    @task(week=3, day=4, number=2)
    def in_turn(self) -> Iterator[PagedRequest]:
        for number in sorted(self._priorities):
            yield from self._priorities[number].in_turn()


class _Priority:
    # `_heads` is a sorted list, always up to date, of pairs: a user's counter and the first place of their line.

    @task(week=3, day=4, number=2)
    def add(self, request: PagedRequest) -> None:
        user = request.user
        if user not in self._lines:
            self._served[user] = max(self._served.get(user, 0), self._level)
            self._lines[user] = SortedList()
        with self._changes(user):
            self._lines[user].add(_place(request))

    @task(week=3, day=4, number=2)
    def remove(self, request: PagedRequest) -> None:
        with self._changes(request.user):
            self._lines[request.user].remove(_place(request))

    @task(week=3, day=4, number=2)
    def charge(self, user: str, tokens: int) -> None:
        with self._changes(user):
            self._served[user] = self._served.get(user, 0) + tokens
        if len(self._served) - len(self._lines) > REMEMBERED:
            self._served = {name: self._served[name] for name in self._lines}

    @task(week=3, day=4, number=2)
    def in_turn(self) -> Iterator[PagedRequest]:
        heads = iter(self._heads)
        head = next(heads, None)
        following: list[tuple[tuple[int, _Place], int]] = []  # a heap; the number is the place's index in its line
        while head is not None or following:
            if head is not None and (not following or head < following[0][0]):
                (counter, place), at, head = head, 0, next(heads, None)
            else:
                (counter, place), at = heappop(following)
            request = place.request
            yield request
            line = self._lines[request.user]
            if at + 1 < len(line):
                heappush(following, ((counter + len(request.prompt), line[at + 1]), at + 1))

    @contextmanager
    def _changes(self, user: str) -> Iterator[None]:
        if self._lines.get(user):
            del self._heads[bisect_left(self._heads, self._head(user))]
        yield
        if self._lines.get(user):
            insort(self._heads, self._head(user))
        else:
            self._lines.pop(user, None)
        if self._heads:
            self._level = self._heads[0][0]

    def _head(self, user: str) -> tuple[int, _Place]:
        return self._served[user], self._lines[user][0]
