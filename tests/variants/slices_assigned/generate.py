"""Prefill stands before the loop, and the loop has one token per call."""

from collections.abc import Collection, Iterator, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import KvCache
from .model import Model


@task(week=2, day=1, number=3)
def generate_tokens_with_cache(
    model: Model,
    prompt: Sequence[int],
    max_tokens: int,
    eos_token_ids: Collection[int] = (),
    sampler: Choose = greedy,
    cache: Sequence[KvCache] | None = None,
) -> Iterator[int]:
    if len(prompt) == 0:
        raise ValueError("an empty prompt has no token to go on from")
    if max_tokens < 1:
        return
    layers = [KvCache() for _ in range(model.config.num_layers)] if cache is None else cache
    history = [*prompt]
    logits = model(mx.array(history)[None], layers[0].offset, layers)
    while True:
        chosen = int(sampler(logits[0, -1, :], history))
        if chosen in eos_token_ids:
            break
        history.append(chosen)
        yield chosen
        if len(history) == len(prompt) + max_tokens:
            break
        logits = model(mx.array([[chosen]]), layers[0].offset, layers)
