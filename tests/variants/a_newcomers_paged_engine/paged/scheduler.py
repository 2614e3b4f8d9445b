from collections.abc import Iterable, Iterator, Sequence

from tiny_llm_kit.course import task

from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest


class Scheduler:
    @task(week=3, day=4, number=4)
    def plan(
        self,
        waiting: Iterable[PagedRequest],
        running: Sequence[PagedRequest],
        pool: BlockPool,
        prefix_cache: PrefixCache,
    ) -> MixedPlan:
        claims = [request for request in running if not request.all_launched]
        blocks = _FreeBlocks(pool, prefix_cache)
        decodes, begun, preempted = self._plan_running(claims, blocks)
        budget = self.max_num_batched_tokens - len(decodes)
        chunks = []
        for request in begun:
            if not budget:
                break
            take = min(budget, request.to_compute)
            chunks.append(Chunk(request, request.offset, request.offset + take))
            budget -= take
        if not preempted:
            seats = self.max_num_seqs - len(claims)
            chunks += self._plan_admissions(waiting, seats, budget, bool(running), blocks)
        return MixedPlan(decodes, chunks, preempted)

    @task(week=3, day=4, number=4)
    def _plan_running(
        self, claims: Sequence[PagedRequest], blocks: "_FreeBlocks"
    ) -> tuple[list[PagedRequest], list[PagedRequest], list[PagedRequest]]:
        decodes: list[PagedRequest] = []
        begun: list[PagedRequest] = []
        end = len(claims)  # from here on, they are preempted
        at = 0
        while at < end:
            request = claims[at]
            if request.to_compute > 1:
                begun.append(request)
                at += 1
                continue
            lacking = blocks_for(request.offset + 1, blocks.pool.block_size) - len(request.blocks)
            while lacking > blocks.free and end > max(at, 1):
                end -= 1
                blocks.give_back(claims[end].blocks)
            if at < end and lacking <= blocks.free:
                blocks.free -= lacking
                decodes.append(request)
            at += 1
        return decodes, begun, list(claims[end:])

    @task(week=3, day=4, number=4)
    def _plan_admissions(
        self, waiting: Iterable[PagedRequest], seats: int, budget: int, others_run: bool, blocks: "_FreeBlocks"
    ) -> Iterator[Chunk]:
        candidates = iter(waiting)
        while seats > 0 and budget > 0:
            request = next(candidates, None)
            if request is None:
                return
            if request.in_flight:
                continue
            reserve = int(self.watermark * blocks.pool.num_blocks) if others_run else 0
            tokens = request.tokens
            match = blocks.admit(tokens, reserve)
            if match is None:
                return
            end = min(len(tokens), match.tokens + budget)
            yield Chunk(request, match.tokens, end, match)
            budget -= end - match.tokens
            seats -= 1
            others_run = True


class _FreeBlocks:
    @task(week=3, day=4, number=4)
    def admit(self, tokens: Sequence[int], reserve: int) -> Match | None:
        size = self.pool.block_size
        longest = self.prefix_cache.match(tokens)
        for match in (longest, longest.in_full(size)):
            idle = sum(map(self._idle, match.blocks))
            needed = blocks_for(len(tokens), size) - match.tokens // size + idle
            if needed + reserve <= self.free:
                self.free -= needed
                self._change.update(match.blocks)
                return match
        return None
