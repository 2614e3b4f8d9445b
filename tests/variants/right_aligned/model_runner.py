"""Two tokens of a request may be on their way: the one from its prefill, and the one that it decodes in the same iteration."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .in_flight import Drawn
from .request import Request


class ModelRunner:
    @task(week=2, day=6, number=4)
    def join(self, request: Request, slot: int, first_token: Drawn) -> None:
        for cache, prefilled in zip(self.caches, request.kv_cache, strict=True):
            cache.add_request(prefilled, slot)
        request.kv_cache = None
        request.joined_with = first_token.tokens[0]
        self._put_last_token(slot, first_token.tokens)


@task(week=2, day=6, number=4)
def sample(logits: mx.array, requests: Sequence[Request], last_tokens: mx.array | None = None) -> mx.array:
    tokens = mx.argmax(logits, axis=-1)
    for row, request in enumerate(requests):
        if request.sampler.greedy:
            continue
        before = list(request.tokens[: request.offset])
        if len(before) < request.offset:
            before.append(request.joined_with)
        if last_tokens is not None:
            before.append(last_tokens[row])
        tokens[row] = request.sampler(logits[row], before)
    return tokens
