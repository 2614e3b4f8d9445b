"""What a prefix cache saves: admission takes as much of a sequence from it as possible.

There is no model here: blocks are counted, nothing is computed.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tiny_llm_kit.course import task

from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache


@dataclass(frozen=True)
class Admission:
    """The memory of one sequence.

    Args:
        table: its blocks, with a reference to each, as many as its tokens need.
        cached: how many of its tokens need not be computed.
        copy: a block of the cache whose beginning the sequence needs, and the block of its own table to copy it to at once,
            before anything is written: (source, target).
    """

    table: list[int]
    cached: int
    copy: tuple[int, int] | None = None


@task(week=3, day=3, number=6)
def admit(cache: PrefixCache, tokens: Sequence[int]) -> Admission | None:
    """Give a sequence its blocks: those that the cache has, and new ones, for which others are evicted if necessary.

    A block that the sequence would write to is never shared: it is copied. If there is no room for a copy alongside the
    original, the block is not used, and its tokens are computed again.

    Returns:
        None if there are not enough blocks even so; then nothing was taken and nothing evicted.
    """
    match = cache.match(tokens)
    in_full = match.in_full(cache.pool.block_size)
    if match.tokens > in_full.tokens and (admitted := _admit(cache, tokens, match)):
        return admitted
    return _admit(cache, tokens, in_full)


@task(week=3, day=3, number=6)
def _admit(cache: PrefixCache, tokens: Sequence[int], match: Match) -> Admission | None:
    whole = match.tokens // cache.pool.block_size
    needed = blocks_for(len(tokens), cache.pool.block_size) - whole
    cache.lock(match)  # what was found must not be evicted to make room for the rest
    if needed > cache.pool.num_free + cache.evictable:
        cache.unlock(match)
        return None
    cache.evict(needed - cache.pool.num_free)
    own = cache.pool.allocate(needed)
    assert own is not None
    in_part = match.blocks[whole:]
    cache.release(in_part)
    return Admission([*match.blocks[:whole], *own], match.tokens, (in_part[0], own[0]) if in_part else None)


@dataclass(frozen=True)
class Savings:
    """The tokens of all prompts, and how many of them were found in the cache."""

    tokens: int
    cached: int

    @property
    def computed(self) -> int:
        """Tokens that still had to be computed."""
        return self.tokens - self.cached

    @property
    def hit_rate(self) -> float:
        """The share of tokens that was found, 0 … 1; 0 without any."""
        return self.cached / self.tokens if self.tokens else 0.0


@task(week=3, day=3, number=7)
def measure_savings(prompts: Iterable[Sequence[int]], num_blocks: int, block_size: int = 16) -> Savings:
    """Serve prompts one after another, with a prefix cache in a pool of this size, and count.

    Raises:
        ValueError: if a prompt needs more blocks than there are.
    """
    cache = PrefixCache(BlockPool(num_blocks, block_size))
    total = cached = 0
    for tokens in prompts:
        admitted = admit(cache, tokens)
        if admitted is None:
            needed = blocks_for(len(tokens), block_size)
            raise ValueError(
                f"a prompt of {len(tokens)} tokens needs {needed} blocks, and the pool has {num_blocks}: enlarge it"
            )
        full = len(tokens) // block_size
        duplicates = cache.insert(tokens[: full * block_size], admitted.table[:full])
        cache.release([duplicates.get(block, block) for block in admitted.table])
        total, cached = total + len(tokens), cached + admitted.cached
    return Savings(total, cached)
