from collections.abc import Callable, Collection, Sequence
from heapq import nsmallest
from itertools import islice, takewhile

from tiny_llm_kit.course import task

from .request import Request


class Strategy:
    @task(week=2, day=6, number=8)
    def choose(self, waiting: Collection[Request], running: Sequence[Request], count: int) -> list[Request]:
        starving = list(islice(takewhile(lambda request: request.overtaken >= self.max_overtakes, waiting), count))
        if len(starving) == count:
            return starving
        others = islice(waiting, len(starving), None)
        return starving + nsmallest(count - len(starving), others, key=self.ranking(running))


class ShortestRemaining(Strategy):
    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        def remaining(request: Request) -> float:
            prompt_left = max(0, len(request.prompt) - request.offset)
            return prompt_left + request.max_tokens - len(request.generated_tokens)

        return remaining


class LengthBalance(Strategy):
    @task(week=2, day=6, number=8)
    def ranking(self, running: Sequence[Request]) -> Callable[[Request], float]:
        if not running:
            return lambda request: 0
        mean = sum(max(request.offset, len(request.prompt)) for request in running) / len(running)
        return lambda request: abs(len(request.prompt) - mean)


@task(week=2, day=6, number=4)
def plan_step(
    waiting: Collection[Request], running: Sequence[Request], max_slots: int, prefill_step: int, strategy: Strategy
) -> StepPlan:
    decode = [request for request in running if request.offset >= len(request.prompt)]
    candidates = [request for request in running if request.offset < len(request.prompt)]
    free = max_slots - len(running)
    if free > 0:
        candidates += strategy.choose(waiting, running, free)
    chunks: list[PrefillChunk] = []
    budget = prefill_step
    for request in candidates:
        start, end = request.offset, len(request.prompt)
        if not chunks:
            end = min(end, start + budget)
        if budget == 0 or end - start > budget:
            break
        chunks.append(PrefillChunk(request, start, end))
        budget -= end - start
    return StepPlan(chunks, decode)
