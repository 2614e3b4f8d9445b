"""What the model has not seen waits in a queue: the prompt at first, then a token at a time."""

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
    unseen, seen = list(prompt), []
    if not unseen:
        raise ValueError(f"prompt {prompt!r} is empty: give at least one token")
    if not cache:
        cache = [KvCache() for _layer in model.config.num_layers * [None]]
    before = cache[0].offset
    while len(seen) + len(unseen) < len(prompt) + max_tokens:
        logits = model(mx.array([unseen]), before + len(seen), cache, logits_to_keep=1)
        seen += unseen
        unseen = [int(sampler(logits.squeeze(), seen))]
        if unseen[0] in eos_token_ids:
            return
        yield unseen[0]
