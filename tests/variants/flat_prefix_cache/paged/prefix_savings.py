"""Admission that counts what it may evict before it touches anything."""

from collections.abc import Iterable, Sequence

from tiny_llm_kit.course import task

from .block_pool import BlockPool
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


@task(week=3, day=3, number=7)
def measure_savings(prompts: Iterable[Sequence[int]], num_blocks: int, block_size: int = 16) -> Savings:
    cache = PrefixCache(BlockPool(num_blocks, block_size))
    counts = [(len(prompt), _serve(cache, prompt)) for prompt in prompts]
    return Savings(*(sum(column) for column in zip((0, 0), *counts, strict=True)))


def _serve(cache: PrefixCache, prompt: Sequence[int]) -> int:
    """How many of its tokens were found. Its blocks are filed one more at a time, as if it had been computed in pieces."""
    admitted, size = admit(cache, prompt), cache.pool.block_size
    if admitted is None:
        raise ValueError(f"{len(prompt)} tokens don't fit into {cache.pool.num_blocks} blocks")
    table = admitted.table
    for filed in range(1, len(prompt) // size + 1):
        for own, other in cache.insert(prompt[: filed * size], table[:filed]).items():
            table[table.index(own)] = other
    cache.release(table)
    return admitted.cached
