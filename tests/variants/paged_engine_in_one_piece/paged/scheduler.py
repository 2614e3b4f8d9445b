import copy
from collections.abc import Iterable, Sequence

from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest


class Scheduler:
    def plan(
        self,
        waiting: Iterable[PagedRequest],
        running: Sequence[PagedRequest],
        pool: BlockPool,
        prefix_cache: PrefixCache,
    ) -> MixedPlan:
        pool, cache = copy.deepcopy((pool, prefix_cache))
        promised = 0
        claims = [request for request in running if not request.all_launched]
        decodes: list[PagedRequest] = []
        preempted: list[PagedRequest] = []
        for request in claims:
            if request in preempted or request.to_compute > 1:
                continue
            missing = blocks_for(request.offset + 1, pool.block_size) - len(request.blocks)
            while promised + missing > pool.num_free + cache.evictable:
                victim = claims[-1 - len(preempted)]
                if victim is claims[0]:
                    break
                preempted.append(victim)
                cache.release(victim.blocks)
                if victim is request:
                    break
            else:
                promised += missing
                decodes.append(request)
        budget, begun = self.max_num_batched_tokens - len(decodes), []
        for request in claims:
            count = min(request.to_compute, budget)
            if count and request.to_compute > 1 and request not in preempted:
                begun.append(Chunk(request, request.offset, request.offset + count))
                budget -= count
        admitted: list[Chunk] = []
        queue = iter([] if preempted else waiting)
        while budget and len(claims) + len(admitted) < self.max_num_seqs:
            newcomer = next(queue, None)
            if newcomer is None:
                break
            if newcomer.in_flight:
                continue
            reserve = int(self.watermark * pool.num_blocks) if running or admitted else 0
            match = cache.match(newcomer.tokens)
            needed = self._lock(cache, match, newcomer)
            if promised + needed + reserve > pool.num_free + cache.evictable:
                cache.unlock(match)
                whole = match.tokens // pool.block_size
                match = Match(match.blocks[:whole], whole * pool.block_size)
                needed = self._lock(cache, match, newcomer)
                if promised + needed + reserve > pool.num_free + cache.evictable:
                    break
            cache.release(match.blocks[match.tokens // pool.block_size :])
            promised += needed
            end = min(match.tokens + budget, len(newcomer.tokens))
            admitted.append(Chunk(newcomer, match.tokens, end, match))
            budget -= end - match.tokens
        return MixedPlan(decodes, admitted + begun, preempted)

    def _lock(self, cache: PrefixCache, match: Match, request: PagedRequest) -> int:
        """The blocks that are still needed then."""
        cache.lock(match)
        return blocks_for(len(request.tokens), cache.pool.block_size) - match.tokens // cache.pool.block_size
