from bisect import bisect_left, insort
from collections.abc import Iterator
from typing import Any

from .request import PagedRequest


class FairQueue:
    def __init__(self) -> None:
        super().__init__()
        self.arrived = 0
        self.counters: dict[tuple[int, str], int] = {}
        self.lowest: dict[int, int] = {}
        self.lines: dict[tuple[int, str], list[Any]] = {}
        self.first: list[Any] = []

    def __setitem__(self, request_id: int, request: PagedRequest) -> None:
        self.data[request_id] = request
        if request.arrival is None:
            request.arrival, self.arrived = self.arrived, self.arrived + 1
        key = (request.priority, request.user)
        if key not in self.lines:
            self.counters[key] = max(self.counters.get(key, 0), self.level(request.priority))
        self.change(key, lambda line: insort(line, self.place(request)))

    def __delitem__(self, request_id: int) -> None:
        request = self.data.pop(request_id)
        self.level(request.priority)
        self.change((request.priority, request.user), lambda line: line.remove(self.place(request)))

    def charge(self, request: PagedRequest, tokens: int) -> None:
        key = (request.priority, request.user)

        def add(line: list[Any]) -> None:
            self.counters[key] = self.counters.get(key, self.lowest.get(request.priority, 0)) + tokens

        self.change(key, add)
        if len(self.counters) > REMEMBERED + len(self.lines):
            self.counters = {key: counter for key, counter in self.counters.items() if key in self.lines}

    def in_turn(self) -> Iterator[PagedRequest]:
        first, taken, counters = list(self.first), dict[tuple[int, str], int](), dict(self.counters)
        while first:
            _, _, _, _, key = first.pop(0)
            line = self.lines[key]
            request = line[taken.get(key, 0)][2]
            yield request
            taken[key] = taken.get(key, 0) + 1
            counters[key] += len(request.prompt)
            if line[taken[key] :]:
                insort(first, (key[0], counters[key], *line[taken[key]][:2], key))

    def mend(self) -> None:
        requests = sorted(self.data.values(), key=lambda request: self.counters.get((request.priority, request.user), 0))
        self.data, self.lines, self.first = {}, {}, []
        for request in requests:
            self[request.request_id] = request

    def level(self, priority: int) -> int:
        at = bisect_left(self.first, (priority,))
        if at < len(self.first) and self.first[at][0] == priority:
            self.lowest[priority] = self.first[at][1]
        return self.lowest.get(priority, 0)

    def change(self, key: tuple[int, str], how: Any) -> None:
        line = self.lines.setdefault(key, [])
        if line:
            del self.first[bisect_left(self.first, self.entry(key))]
        how(line)
        if line:
            insort(self.first, self.entry(key))
        else:
            del self.lines[key]

    def entry(self, key: tuple[int, str]) -> Any:
        return (key[0], self.counters[key], *self.lines[key][0][:2], key)

    @staticmethod
    def place(request: PagedRequest) -> Any:
        return (float("inf") if request.deadline is None else request.deadline, request.arrival, request)
