"""The prefix cache: full blocks of tokens that were computed once, found again by their tokens.

A trie: each node is one full block, filed under its tokens, below the block that comes before it. So a block is found exactly
if its tokens and all tokens before them are the same, which is what makes its keys and values the same. It does not rely on
hashes: a dictionary compares the tokens themselves. SGLang's RadixAttention is such a tree (arXiv 2312.07104, section 3).

It knows tokens and block numbers, but no requests and no arrays.
"""

from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from tiny_llm_kit.course import task

from .block_pool import BlockPool

Tokens = tuple[int, ...]


@dataclass(frozen=True)
class Match:
    """What the cache holds of a sequence.

    Args:
        blocks: the beginning of its table.
        tokens: how many of its tokens need not be computed. The last block is partly used if they end within it.
    """

    blocks: list[int]
    tokens: int

    def in_full(self, block_size: int) -> "Match":
        """The same without a partly used block: nothing has to be copied then."""
        whole = self.tokens // block_size
        return Match(self.blocks[:whole], whole * block_size)


@dataclass(eq=False)
class Node:
    """A full block, below the one whose tokens come before it. The root is not a block: `block` is −1, `depth` is 0."""

    tokens: Tokens = ()
    block: int = -1
    parent: "Node | None" = None
    depth: int = 0
    children: dict[Tokens, "Node"] = field(default_factory=dict)


class PrefixCache:
    """A trie of full blocks. Each has one reference from the trie itself, and one from each table that holds it.

    A table that holds a block of the trie also holds those above it. So if only the trie holds a block, no table holds any
    block below it: it can be evicted, leaves first. Its last use is when the last table gave it back.

    Args:
        pool: the pool that the blocks belong to.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self._root = Node()
        self._nodes: dict[int, Node] = {}  # by block
        self._idle: OrderedDict[int, None] = OrderedDict()  # held by the trie alone, the least recently used first

    @property
    def evictable(self) -> int:
        """How many blocks `evict` can free."""
        return len(self._idle)

    @property
    def blocks(self) -> list[int]:
        """All blocks of the trie: for `BlockPool.check_integrity` this is one more table."""
        return list(self._nodes)

    def holds(self, block: int) -> bool:
        """Whether a block is in the trie."""
        return block in self._nodes

    @task(week=3, day=3, number=1)
    def insert(self, tokens: Sequence[int], blocks: Sequence[int]) -> dict[int, int]:
        """File the blocks of a table for others to find.

        Blocks that are new to the trie get a reference from it. If it already has the same tokens in another block, the
        caller's block is a duplicate: the caller's reference moves to the trie's block, and the duplicate is given back.

        Args:
            tokens: a whole number of blocks, all of them computed.
            blocks: the table that holds them from the first token on, with a reference to each.
        Returns:
            `{own: the trie's}` for each duplicate: the caller replaces these in its table.
        Raises:
            ValueError: if there are more or fewer tokens than the blocks hold, or a block is listed twice, is free, is in the
                trie with other tokens, or is held by the trie alone. Then nothing has changed.
        """
        raise NotImplementedError(
            "Week 3 Day 3, task 1: file full blocks by their tokens. Read book/src/week3-03-prefix-cache.md"
        )

    @task(week=3, day=3, number=2)
    def match(self, tokens: Sequence[int]) -> Match:
        """Find the longest beginning of `tokens` that is cached, in full blocks. Nothing changes, and nothing is held.

        At least the last token is left to be computed, since its logits are needed. If the cache has all tokens, the last block
        stays in the match, and is used without its last token. To compute that token, copy the block first and write into the
        copy: others read the block.
        """
        raise NotImplementedError("Week 3 Day 3, task 2: match. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=3)
    def lock(self, match: Match) -> None:
        """Take a reference to each block of a match, before it can be evicted: the caller's table now begins with these blocks.

        Raises:
            ValueError: if the blocks are no longer a path of the trie, because some have been evicted since. Match again.
        """
        raise NotImplementedError("Week 3 Day 3, task 3: lock, unlock, release. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=3)
    def unlock(self, match: Match) -> None:
        """Give back what `lock` took.

        Raises:
            ValueError: as `release`.
        """
        raise NotImplementedError("Week 3 Day 3, task 3: lock, unlock, release. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=3)
    def release(self, blocks: Sequence[int]) -> None:
        """Give back tables, or parts of them, in any order: one reference for each block listed, whether it is in the trie or
        not.

        Blocks that only the trie still holds stay in it, and can be evicted from now on.

        Raises:
            ValueError: if a block has fewer references than that, apart from the trie's own. Then nothing has changed.
        """
        raise NotImplementedError("Week 3 Day 3, task 3: lock, unlock, release. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=4)
    def evict(self, count: int) -> int:
        """Free up to `count` blocks that only the trie holds: leaves, the least recently used first. A parent may become a
        leaf.

        Returns:
            How many were freed.
        """
        raise NotImplementedError("Week 3 Day 3, task 4: evict leaves by last use. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=4)
    def clear(self) -> None:
        """Free all blocks that only the trie holds."""
        raise NotImplementedError("Week 3 Day 3, task 4: evict leaves by last use. Read book/src/week3-03-prefix-cache.md")

    @task(week=3, day=3, number=5)
    def check_integrity(self) -> None:
        """Every block of the trie must be found from the root, be held by the trie and by no more tables than its parent, and
        count as evictable exactly if only the trie holds it.

        Raises:
            RuntimeError: naming a block for which that does not hold.
        """
        raise NotImplementedError("Week 3 Day 3, task 5: integrity. Read book/src/week3-03-prefix-cache.md")

    def _cut(self, tokens: Sequence[int]) -> list[Tokens]:
        """The tokens of each full block."""
        size = self.pool.block_size
        return [tuple(tokens[at : at + size]) for at in range(0, len(tokens) - size + 1, size)]

    @task(week=3, day=3, number=1)
    def _find(self, keys: Sequence[Tokens]) -> list[Node]:
        """Follow the keys from the root, as far as there are nodes."""
        raise NotImplementedError(
            "Week 3 Day 3, task 1: file full blocks by their tokens. Read book/src/week3-03-prefix-cache.md"
        )

    @task(week=3, day=3, number=1)
    def _check_own(self, blocks: Sequence[int], path: Sequence[Node]) -> None:
        """What `insert` raises about the blocks it is given."""
        raise NotImplementedError(
            "Week 3 Day 3, task 1: file full blocks by their tokens. Read book/src/week3-03-prefix-cache.md"
        )

    @task(week=3, day=3, number=1)
    def _hold(self, blocks: Sequence[int]) -> None:
        """Take a reference to each of these blocks of the trie."""
        raise NotImplementedError(
            "Week 3 Day 3, task 1: file full blocks by their tokens. Read book/src/week3-03-prefix-cache.md"
        )
