from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from ..model_runner import sample
from .ragged_batch import Row, make_ragged_batch
from .request import PagedRequest
from .scheduler import MixedPlan


class PagedRunner:
    @task(week=3, day=4, number=5)
    def run(self, plan: MixedPlan) -> tuple[list[PagedRequest], Drawn] | None:
        rows = [Row(request.offset, request.offset + 1, request.blocks) for request in plan.decodes]
        asking = list(plan.decodes)
        for chunk in plan.chunks:
            wanted = chunk.end - chunk.start == chunk.request.to_compute
            rows.append(Row(chunk.start, chunk.end, chunk.request.blocks, wanted))
            if wanted:
                asking.append(chunk.request)
        batch = make_ragged_batch(rows, self._tokens(plan), self.block_size)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, logits_to_keep=batch.keep)[0]
        for chunk in plan.chunks:
            chunk.request.offset = chunk.end
        for request in asking[len(plan.decodes) :]:
            request.offset -= 1  # as `sample` expects it: its last token is in `batch.keep`
        drawn = Drawn(sample(logits, asking, batch.tokens[0, batch.keep]), mx.max(logits, axis=-1)) if asking else None
        for request in asking:
            request.offset += 1
            request.in_flight += 1
        self.last_tokens = drawn.tokens if drawn else self.last_tokens[:0]
        self.row_of = {request.request_id: row for row, request in enumerate(asking)}
        return (asking, drawn) if drawn else None

    @task(week=3, day=4, number=5)
    def _tokens(self, plan: MixedPlan) -> mx.array:
        places: list[int] = []
        host: list[int] = []
        unread = self.last_tokens.size

        def from_host(tokens: Sequence[int]) -> None:
            places.extend(range(unread + len(host), unread + len(host) + len(tokens)))
            host.extend(tokens)

        for request in plan.decodes:
            if request.in_flight:
                places.append(self.row_of[request.request_id])
            else:
                from_host(request.tokens[request.offset : request.offset + 1])
        for chunk in plan.chunks:
            from_host(chunk.request.tokens[chunk.start : chunk.end])
        known = mx.concatenate([self.last_tokens, mx.array(host, dtype=mx.uint32)])
        return known[mx.array(places, dtype=mx.int32)]
