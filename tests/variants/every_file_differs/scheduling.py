"""Candidates in a heap, chunks from a generator, strategies that sort."""

from collections.abc import Callable, Collection, Iterator, Sequence
from heapq import heapify, heappop

from tiny_llm_kit.course import task

from .request import Request


class Strategy:
    @task(week=2, day=6, number=8)
    def choose(self, waiting: Collection[Request], running: Sequence[Request], count: int) -> list[Request]:
        rank = self.ranking(running)

        def place(request: Request) -> tuple[bool, float]:
            starving = request.overtaken >= self.max_overtakes
            return (False, 0) if starving else (True, rank(request))

        return sorted(waiting, key=place)[:count]


class Fifo:
    @task(week=2, day=6, number=8)
    def choose(self, waiting: Collection[Request], running: Sequence[Request], count: int) -> list[Request]:
        return [request for _, request in zip(range(count), waiting, strict=False)]


class ShortestRemaining:
    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        def remaining(request: Request) -> float:
            prompt = len(request.prompt) - request.offset
            answer = request.max_tokens - len(request.generated_tokens)
            return prompt + answer

        return remaining


class LengthBalance:
    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        lengths = [request.offset if request.offset > len(request.prompt) else len(request.prompt) for request in running]
        count, total = len(lengths), sum(lengths)
        # |n − total / count| · count gives the same order, in whole numbers; with nobody there it is 0 for all.
        return lambda request: abs(count * len(request.prompt) - total)


@task(week=2, day=6, number=4)
def plan_step(
    waiting: Collection[Request], running: Sequence[Request], max_slots: int, prefill_step: int, strategy: Strategy
) -> StepPlan:
    heap = [(0, number, request) for number, request in enumerate(running) if request.offset < len(request.prompt)]
    if len(running) < max_slots:
        chosen = strategy.choose(waiting, running, max_slots - len(running))
        heap.extend((1, number, request) for number, request in enumerate(chosen))
    heapify(heap)
    chunks = list(_cut(heap, prefill_step))
    return StepPlan(chunks, [request for request in running if request.offset >= len(request.prompt)])


def _cut(heap: list[tuple[int, int, Request]], budget: int) -> Iterator[PrefillChunk]:
    first = True
    while heap and budget > 0:
        _, _, request = heappop(heap)
        start, end = request.offset, len(request.prompt)
        if end - start > budget:
            if first:
                yield PrefillChunk(request, start, start + budget)
            return
        yield PrefillChunk(request, start, end)
        budget -= end - start
        first = False
