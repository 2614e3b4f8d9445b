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
    raise NotImplementedError("Week 3 Day 3, task 6: admit a sequence, copy on write. Read book/src/week3-03-prefix-cache.md")


@task(week=3, day=3, number=6)
def _admit(cache: PrefixCache, tokens: Sequence[int], match: Match) -> Admission | None:
    raise NotImplementedError("Week 3 Day 3, task 6: admit a sequence, copy on write. Read book/src/week3-03-prefix-cache.md")


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
    raise NotImplementedError("Week 3 Day 3, task 7: what a hit saves. Read book/src/week3-03-prefix-cache.md")
