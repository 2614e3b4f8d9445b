"""Memory in blocks of equal size, and how many references each has. It holds block numbers, no arrays.

Paging the KV cache is the idea of vLLM (PagedAttention, SOSP 2023, section 4.2).
"""

from collections import Counter
from collections.abc import Iterable, Sequence

from tiny_llm_kit.course import task


class BlockPool:
    """Blocks 0 … `num_blocks` − 1; each is free or has a count of references to it.

    A reference is one occurrence in a block table. A block is free again when the last one is given back, and the block that
    was given back last is handed out first.

    Args:
        num_blocks: how many there are.
        block_size: tokens that fit into a block.
    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"a pool of {num_blocks} blocks of {block_size} tokens: both must be at least 1")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = list(range(num_blocks - 1, -1, -1))  # the end of the list is handed out first
        self._references = [0] * num_blocks

    @property
    def num_free(self) -> int:
        """The number of free blocks."""
        return len(self._free)

    def references(self, block: int) -> int:
        """How often a block is held; 0 if it is free."""
        return self._references[block]

    @task(week=3, day=1, number=1)
    def allocate(self, count: int) -> list[int] | None:
        """Take `count` free blocks, with one reference each. If there are fewer, take none and return None.

        Raises:
            ValueError: if `count` is negative.
        """
        if count < 0:
            raise ValueError(f"can't allocate {count} blocks: the number must be at least 0")
        if count > len(self._free):
            return None
        blocks = [self._free.pop() for _ in range(count)]
        for block in blocks:
            self._references[block] = 1
        return blocks

    @task(week=3, day=1, number=1)
    def share(self, blocks: Sequence[int]) -> None:
        """Add one reference to each of these blocks.

        Raises:
            ValueError: if one of them is free or does not exist; then nothing has changed.
        """
        self._check_held(Counter(dict.fromkeys(blocks, 1)), "shared")
        for block in blocks:
            self._references[block] += 1

    @task(week=3, day=1, number=1)
    def release(self, blocks: Sequence[int]) -> None:
        """Give back one reference for each time that a block is listed. A block without references is free.

        Raises:
            ValueError: if a block has fewer references than that, or does not exist; then nothing has changed.
        """
        self._check_held(Counter(blocks), "released")
        for block in blocks:
            self._references[block] -= 1
            if not self._references[block]:
                self._free.append(block)

    def _check_held(self, times: Counter[int], what: str) -> None:
        for block, count in times.items():
            if not 0 <= block < self.num_blocks:
                raise ValueError(f"block {block} can't be {what}: the pool has blocks 0 to {self.num_blocks - 1}")
            if self._references[block] < count:
                raise ValueError(
                    f"block {block} can't be {what}: it has {self._references[block]} references, and {count} are needed"
                )

    @task(week=3, day=1, number=1)
    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        """Every block must be accounted for: it is free, or has as many references as it has occurrences in `tables`, the list
        of all tables.

        Raises:
            RuntimeError: naming a block that is not.
        """
        held = Counter(block for table in tables for block in table)
        if unknown := held.keys() - set(range(self.num_blocks)):
            raise RuntimeError(f"tables hold blocks {sorted(unknown)}, and the pool has blocks 0 to {self.num_blocks - 1}")
        for block, references in enumerate(self._references):
            if references != held[block]:
                raise RuntimeError(f"block {block} has {references} references and is in {held[block]} tables")
        free = Counter(self._free)
        for block, references in enumerate(self._references):
            if free[block] != (not references):
                raise RuntimeError(f"block {block} has {references} references and is {free[block]} times among the free")


@task(week=3, day=1, number=2)
def blocks_for(tokens: int, block_size: int) -> int:
    """How many blocks this many tokens need: the last one may be partly filled."""
    return -(-tokens // block_size)


@task(week=3, day=1, number=2)
def slot_mapping(table: Sequence[int], start: int, end: int, block_size: int) -> list[int]:
    """Where the tokens `start` … `end` − 1 of a sequence are, counted in tokens from the beginning of the pool.

    Args:
        table: the sequence's blocks, in the order of its tokens.
    Raises:
        ValueError: if the table is too short for them.
    """
    if end > len(table) * block_size:
        raise ValueError(f"{len(table)} blocks of {block_size} tokens can't hold {end} tokens: allocate blocks first")
    return [table[at // block_size] * block_size + at % block_size for at in range(start, end)]
