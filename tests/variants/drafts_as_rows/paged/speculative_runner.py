"""A decode with K drafts is K + 1 rows of the batch, each with one token, that share a table: all decodes are one group."""

from collections.abc import Mapping, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from .ragged_batch import Row, make_ragged_batch
from .request import PagedRequest
from .runner import PagedRunner
from .scheduler import MixedPlan
from .verify import draw


class SpeculativeRunner(PagedRunner):
    @task(week=3, day=5, number=5)
    def run(
        self, plan: MixedPlan, drafts: Mapping[int, Sequence[int]] | None = None
    ) -> tuple[list[PagedRequest], Drawn] | None:
        rows: list[Row] = []
        tokens: list[int] = []
        asking: list[tuple[PagedRequest, list[int]]] = []
        for request in plan.decodes:
            behind = list((drafts or {}).get(request.request_id, ()))
            asking.append((request, behind))
            tokens += [request.tokens[request.offset], *behind]
            rows += [Row(at, at + 1, request.blocks) for at in range(request.offset, request.offset + len(behind) + 1)]
        for chunk in plan.chunks:
            whole = chunk.end == len(chunk.request.tokens)
            asking += [(chunk.request, [])] * whole
            tokens += chunk.request.tokens[chunk.start : chunk.end]
            rows.append(Row(chunk.start, chunk.end, chunk.request.blocks, whole))
        batch = make_ragged_batch(rows, mx.array(tokens, dtype=mx.uint32), self.block_size)
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, logits_to_keep=batch.keep)[0]
        for chunk in plan.chunks:
            chunk.request.offset += chunk.end - chunk.start
        if not asking:
            return None
        drawn, owners = [], []
        for request, behind in asking:
            part = logits[len(owners) : len(owners) + 1 + len(behind)]
            drawn.append(Drawn(draw(part, behind, request.sampler, request.tokens), part.max(axis=-1)))
            owners.extend([request] * (1 + len(behind)))
        tokens_drawn, best = (mx.concatenate(column) for column in zip(*drawn, strict=True))
        return owners, Drawn(tokens_drawn, best)
