"""Admission that counts what it may evict before it touches anything."""

from collections.abc import Sequence

from tiny_llm_kit.course import task

from .prefix_cache import Match, PrefixCache


@task(week=3, day=3, number=6)
def admit(cache: PrefixCache, tokens: Sequence[int]) -> Admission | None:
    pool, match = cache.pool, cache.match(tokens)
    used_in_part = match.tokens % pool.block_size > 0
    for copied in [True, False] if used_in_part else [False]:
        shared = match.blocks[: match.tokens // pool.block_size]
        kept = [*shared, match.blocks[-1]] if copied else shared
        new = -(-len(tokens) // pool.block_size) - len(shared)
        idle = sum(pool.references(block) == 1 for block in kept)
        if new > pool.num_free + cache.evictable - idle:
            continue
        cache.lock(Match(kept, 0))
        if new > pool.num_free:
            cache.evict(new - pool.num_free)
        own = pool.allocate(new)
        if copied:
            cache.release(kept[-1:])
            return Admission([*shared, *own], match.tokens, (kept[-1], own[0]))
        return Admission([*shared, *own], len(shared) * pool.block_size)
    return None
