"""Admission that locks all that was found, and lets go what there is no room for."""

from collections.abc import Iterable, Sequence

from tiny_llm_kit.course import task

from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache


@task(week=3, day=3, number=6)
def admit(cache: PrefixCache, tokens: Sequence[int]) -> Admission | None:
    pool, match = cache.pool, cache.match(tokens)
    cached = match.tokens
    whole, part = divmod(cached, pool.block_size)
    shared, original = match.blocks[:whole], match.blocks[whole:] if part else []
    missing = blocks_for(len(tokens), pool.block_size) - len(shared)
    cache.lock(Match(shared + original, cached))
    if original and missing > pool.num_free + cache.evictable:
        cache.release(original)
        original, cached = [], len(shared) * pool.block_size
    if missing > pool.num_free + cache.evictable:
        cache.release(shared)
        return None
    while pool.num_free < missing:
        cache.evict(1)
    new = pool.allocate(missing)
    cache.release(original)
    return Admission(shared + new, cached, (*original, new[0]) if original else None)


@task(week=3, day=3, number=7)
def measure_savings(prompts: Iterable[Sequence[int]], num_blocks: int, block_size: int = 16) -> Savings:
    pool = BlockPool(num_blocks, block_size)
    cache, sums = PrefixCache(pool), Savings(0, 0)
    for prompt in prompts:
        if blocks_for(len(prompt), block_size) > num_blocks:
            raise ValueError(f"{num_blocks} blocks of {block_size} are too few for a prompt of {len(prompt)} tokens")
        admission = admit(cache, prompt)
        rest = len(prompt) % block_size
        own = admission.table[: len(prompt) // block_size]
        swapped = cache.insert(prompt[: len(prompt) - rest], own)
        for block in reversed(admission.table):
            cache.release([swapped.get(block, block)])
        sums = Savings(sums.tokens + len(prompt), sums.cached + admission.cached)
    return sums
