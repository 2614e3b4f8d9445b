from collections import deque
from collections.abc import Iterable, Sequence

from tiny_llm_kit.course import task


class Router:
    @task(week=3, day=7, number=1)
    def choose(self, request: RoutedRequest, replicas: Sequence[str]) -> list[str]:
        living: list[str] = []
        for name in replicas:
            if name in self._dead or name in living:
                continue
            living.append(name)
        return self.rank(request, living)

    @task(week=3, day=7, number=1)
    def started(self, request: RoutedRequest, replica: str) -> None:
        if replica not in self._dead:
            to_come = {**self._load(replica).to_come, request.request_id: self.work(request, replica)}
            self._loads[replica] = Load(to_come, sum(to_come.values()), next(self._starts))

    @task(week=3, day=7, number=1)
    def progressed(self, request: RoutedRequest, replica: str, tokens: int) -> None:
        load = self._load(replica)
        if request.request_id not in load.to_come:
            return
        # If more is left than the longest answer, the prompt was not computed yet, and now it is.
        left = sorted((0, load.to_come[request.request_id], request.max_tokens))[1] - tokens
        load.to_come[request.request_id] = left if left > 0 else 0
        load.tokens = sum(load.to_come.values())

    @task(week=3, day=7, number=1)
    def finished(self, request: RoutedRequest, replica: str) -> None:
        load = self._load(replica)
        load.to_come.pop(request.request_id, None)
        load.tokens = sum(load.to_come.values())

    @task(week=3, day=7, number=1)
    def died(self, replica: str) -> None:
        self._dead |= {replica}
        if replica in self._loads:
            del self._loads[replica]

    @task(week=3, day=7, number=1)
    def joined(self, replica: str) -> None:
        self._dead -= {replica}

    @task(week=3, day=7, number=1)
    def least_loaded(self, living: Iterable[str]) -> list[str]:
        by_start = sorted(living, key=lambda name: self._load(name).last_start)
        return sorted(by_start, key=self.tokens)


class RoundRobin:
    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        circle = deque(living)
        circle.rotate(-next(self._turns))
        return list(circle)


class PowerOfTwoChoices:
    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        others = list(living)
        self._random.shuffle(others)
        pair = [others.pop() for _ in range(min(2, len(others)))]
        if [*map(self.requests, pair)] == sorted(map(self.requests, pair)):
            return pair + others
        return pair[::-1] + others


class LeastTokens:
    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        return super().least_loaded(reversed(living))
