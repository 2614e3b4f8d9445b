"""Blocks are cut off the end of the free list as a piece, and what is freed is put back as one."""

from collections.abc import Iterable, Sequence
from itertools import chain

from tiny_llm_kit.course import task


class BlockPool:
    @task(week=3, day=1, number=1)
    def allocate(self, count: int) -> list[int] | None:
        if count < 0:
            raise ValueError(f"{count} blocks can't be handed out")
        left = self.num_free - count
        if left < 0:
            return None
        taken = self._free[left:]
        del self._free[left:]
        for block in taken:
            self._references[block] += 1
        return taken

    @task(week=3, day=1, number=1)
    def share(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            if block not in range(self.num_blocks) or self.references(block) == 0:
                raise ValueError(f"block {block} is nobody's, so nobody can share it")
        for block in blocks:
            self._references[block] += 1

    @task(week=3, day=1, number=1)
    def release(self, blocks: Sequence[int]) -> None:
        left: dict[int, int] = {}
        for block in blocks:
            if block not in range(self.num_blocks):
                raise ValueError(f"there is no block {block} to be given back")
            left[block] = left.get(block, self._references[block]) - 1
            if left[block] < 0:
                raise ValueError(f"block {block} is given back more often than it is held")
        for block, references in left.items():
            self._references[block] = references
        self._free += [block for block, references in left.items() if references == 0]

    @task(week=3, day=1, number=1)
    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        missing = list(self._references)
        for block in chain.from_iterable(tables):
            if not 0 <= block < len(missing):
                raise RuntimeError(f"block {block} stands in a table, and does not exist")
            missing[block] -= 1
        for block in self._free:
            if self._references[block]:
                raise RuntimeError(f"block {block} is free and has references")
            missing[block] -= 1
        for block, count in enumerate(missing):
            if count != (0 if self._references[block] else -1):
                raise RuntimeError(f"block {block} is held {self._references[block]} times, of which {count} are unexplained")


@task(week=3, day=1, number=2)
def blocks_for(tokens: int, block_size: int) -> int:
    full, rest = divmod(tokens, block_size)
    return full + 1 if rest else full


@task(week=3, day=1, number=2)
def slot_mapping(table: Sequence[int], start: int, end: int, block_size: int) -> list[int]:
    if blocks_for(end, block_size) > len(table):
        raise ValueError(f"token {end - 1} has no block: a table of {len(table)} ends before {end}")
    slots: list[int] = []
    while start < end:
        index, place = divmod(start, block_size)
        count = min(block_size - place, end - start)
        first = table[index] * block_size + place
        slots.extend(range(first, first + count))
        start += count
    return slots
