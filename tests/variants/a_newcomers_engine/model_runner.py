from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .in_flight import Drawn
from .kv_cache import KvCache
from .masking import create_batch_mask
from .prefill import prefill_chunk
from .request import Request


class ModelRunner:
    @task(week=2, day=6, number=4)
    def prefill(self, request: Request, start: int, end: int) -> Drawn | None:
        if request.kv_cache is None:
            request.kv_cache = [KvCache() for _ in self.caches]
        logits = prefill_chunk(self.model, request.prompt, start, end, request.kv_cache)
        request.offset = end
        return None if logits is None else _draw(logits[None], [request])

    @task(week=2, day=6, number=4)
    def join(self, request: Request, slot: int, first_token: Drawn) -> None:
        if request.kv_cache is None:
            raise ValueError(f"request {request.request_id} has no cache to join with")
        for cache, prefilled in zip(self.caches, request.kv_cache, strict=True):
            cache.add_request(prefilled, slot)
        request.kv_cache = None
        self._put_last_token(slot, first_token.tokens)

    @task(week=2, day=6, number=4)
    def decode(self, requests: Sequence[Request]) -> Drawn:
        offsets = [request.offset for request in requests]
        tokens = self.last_tokens[: len(requests), None]
        mask = create_batch_mask(requests, max(offsets) + 1)
        logits = self.model(tokens, mx.array(offsets), self.caches, mask, logits_to_keep=1)[:, -1]
        drawn = _draw(logits, requests, self.last_tokens)
        self.last_tokens = drawn.tokens
        for request in requests:
            request.offset += 1
        return drawn


@task(week=2, day=6, number=4)
def sample(logits: mx.array, requests: Sequence[Request], last_tokens: mx.array | None = None) -> mx.array:
    best = mx.argmax(logits, axis=-1)
    if all(request.sampler.greedy for request in requests):
        return best.astype(mx.uint32)
    rows = []
    for row, request in enumerate(requests):
        if request.sampler.greedy:
            rows.append(best[row])
            continue
        before: list[int | mx.array] = list(request.tokens[: request.offset])
        if last_tokens is not None:
            before.append(last_tokens[row])
        rows.append(request.sampler(logits[row], before))
    return mx.stack([row.astype(mx.uint32) for row in rows])


def _draw(logits: mx.array, requests: Sequence[Request], last_tokens: mx.array | None = None) -> Drawn:
    return Drawn(sample(logits, requests, last_tokens), mx.max(logits, axis=-1))
