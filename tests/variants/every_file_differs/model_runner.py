"""Rows are the taken slots in rising order, wherever these are. There is a last token for every slot."""

from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .in_flight import Drawn
from .masking import create_batch_mask
from .request import Request


class ModelRunner:
    @task(week=2, day=6, number=4)
    def join(self, request: Request, slot: int, first_token: Drawn) -> None:
        for cache, prefilled in zip(self.caches, request.kv_cache, strict=True):
            cache.add_request(prefilled, slot)
        request.kv_cache = None
        self._remember(mx.array([slot]), first_token.tokens)

    @task(week=2, day=6, number=4)
    def decode(self, requests: Sequence[Request]) -> Drawn:
        slots = mx.array(sorted(self.caches[0].lengths))
        positions = [request.offset for request in requests]
        mask = create_batch_mask(requests, max(positions) + 1)
        last = self.last_tokens[slots]
        logits = self.model(last[:, None], mx.array(positions), self.caches, mask, logits_to_keep=1)[:, -1]
        tokens = sample(logits, requests, last)
        self._remember(slots, tokens)
        for request in requests:
            request.offset += 1
        return Drawn(tokens, mx.max(logits, axis=-1))

    @task(week=2, day=6, number=4)
    def move(self, source: int, target: int) -> None:
        for cache in self.caches:
            cache.move_request(source, target)
        self._remember(mx.array([target]), self.last_tokens[source : source + 1])

    def _remember(self, slots: mx.array, tokens: mx.array) -> None:
        known = self.last_tokens if self.last_tokens.size else mx.zeros((self.max_batch_size,), dtype=mx.uint32)
        self.last_tokens = mx.array(known)
        self.last_tokens[slots] = tokens
