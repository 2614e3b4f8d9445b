"""A step is laid out in one loop: decodes without drafts, then the chunks, then decodes with drafts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

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
        guesses = {request: list((drafts or {}).get(request.request_id, [])) for request in plan.decodes}
        spans = [(r, r.offset, r.offset + 1) for r in plan.decodes if not guesses[r]]
        spans += [(chunk.request, chunk.start, chunk.end) for chunk in plan.chunks]
        spans += [(r, r.offset, r.offset + 1 + len(guesses[r])) for r in plan.decodes if guesses[r]]
        rows, tokens, keep, asking = [], [], [], []
        for request, start, end in spans:
            sequence = request.tokens + guesses.get(request, [])
            rows.append(Row(start, end, request.blocks))
            tokens += sequence[start:end]
            if end == len(sequence):
                wanted = 1 + len(guesses.get(request, []))
                keep += range(len(tokens) - wanted, len(tokens))
                asking.append(request)
        batch = make_ragged_batch(rows, mx.array(tokens, dtype=mx.uint32), self.block_size)
        batch = replace(batch, keep=mx.array(keep, dtype=mx.int32))
        for cache in self.caches:
            cache.batch = batch
        logits = self.model(batch.tokens, batch.positions, self.caches, None, logits_to_keep=batch.keep)[0]
        for chunk in plan.chunks:
            chunk.request.offset = chunk.end
        owners, drawn = [], []
        for request in asking:
            own = guesses.get(request, [])
            part = logits[len(owners) : len(owners) + len(own) + 1]
            drawn.append(draw(part, own, request.sampler, request.tokens))
            owners += [request] * len(part)
        return (owners, Drawn(mx.concatenate(drawn), logits.max(axis=-1))) if owners else None
