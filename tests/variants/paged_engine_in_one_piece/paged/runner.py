"""A runner that keeps each request's last token by its id."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from ..model_runner import sample
from .ragged_batch import Row, make_ragged_batch
from .request import PagedRequest
from .scheduler import MixedPlan


class PagedRunner:
    @task(week=3, day=4, number=5)
    def copy_block(self, source: int, target: int) -> None:
        for cache in self.caches:
            for pool in cache.pools:
                first, size = source * self.block_size, self.block_size
                pool[:, target * size : target * size + size] = pool[:, first : first + size]

    @task(week=3, day=4, number=5)
    def run(self, plan: MixedPlan) -> tuple[list[PagedRequest], Drawn] | None:
        work = [(request, request.offset, request.offset + 1) for request in plan.decodes]
        work += [(chunk.request, chunk.start, chunk.end) for chunk in plan.chunks]
        rows, parts, asking = [], [], []
        for request, start, end in work:
            known = request.tokens
            wanted = end == len(known) + request.in_flight
            rows.append(Row(start, end, request.blocks, wanted))
            if start < len(known):
                parts.append(mx.array(known[start:end], dtype=mx.uint32))
            else:
                parts.append(self.last_of[request.request_id])
            if wanted:
                asking.append(request)
        batch = make_ragged_batch(rows, mx.concatenate(parts), self.block_size)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, batch.keep)[0]
        self.last_of: dict[int, mx.array] = {}
        for request, _, end in work:
            request.offset = end - 1
        tokens = sample(logits, asking, batch.tokens[0][batch.keep]) if asking else None
        for request, _, end in work:
            request.offset = end
        if tokens is None:
            return None
        for place, request in enumerate(asking):
            request.in_flight += 1
            self.last_of[request.request_id] = tokens[place : place + 1]
        return asking, Drawn(tokens, logits.max(axis=-1))
