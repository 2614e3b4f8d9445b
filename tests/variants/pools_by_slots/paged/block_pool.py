"""A pool that knows the blocks that are held by a dictionary, and the others by a deque."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from tiny_llm_kit.course import task


class BlockPool:
    def __init__(self, num_blocks: int, block_size: int = 16) -> None:
        if num_blocks < 1 or block_size < 1:
            raise ValueError(f"{num_blocks} blocks of {block_size} tokens: both must be at least 1")
        self.num_blocks = num_blocks
        self.block_size = block_size
        self._free = deque(range(num_blocks))
        self._held: dict[int, int] = {}

    def references(self, block: int) -> int:
        return self._held.get(block, 0)

    @task(week=3, day=1, number=1)
    def allocate(self, count: int) -> list[int] | None:
        if count < 0:
            raise ValueError(f"{count} blocks: the number is negative")
        if self.num_free < count:
            return None
        table = []
        while len(table) < count:
            table.append(self._free.popleft())
            self._held[table[-1]] = 1
        return table

    @task(week=3, day=1, number=1)
    def share(self, blocks: Sequence[int]) -> None:
        for block in blocks:
            if block not in self._held:
                raise ValueError(f"block {block} is not held by anybody")
        for block in blocks:
            self._held[block] += 1

    @task(week=3, day=1, number=1)
    def release(self, blocks: Sequence[int]) -> None:
        listed = Counter(blocks)
        for block, times in listed.items():
            if self._held.get(block, 0) < times:
                raise ValueError(f"block {block} is given back too often")
        for block, times in listed.items():
            self._held[block] -= times
            if self._held[block] == 0:
                del self._held[block]
                self._free.appendleft(block)

    @task(week=3, day=1, number=1)
    def check_integrity(self, tables: Iterable[Sequence[int]]) -> None:
        wanted: dict[int, int] = {}
        for table in tables:
            for block in table:
                wanted[block] = wanted.get(block, 0) + 1
        for block in {*wanted, *self._held}:
            if wanted.get(block, 0) != self._held.get(block, 0):
                raise RuntimeError(f"block {block}: {self._held.get(block, 0)} references, {wanted.get(block, 0)} in tables")
        if len(self._free) + len(self._held) != self.num_blocks or self._held.keys() & set(self._free):
            raise RuntimeError("blocks are lost, or both held and free")


@task(week=3, day=1, number=2)
def blocks_for(tokens: int, block_size: int) -> int:
    return (tokens + block_size - 1) // block_size


@task(week=3, day=1, number=2)
def slot_mapping(table: Sequence[int], start: int, end: int, block_size: int) -> list[int]:
    if not end <= len(table) * block_size:
        raise ValueError(f"the table ends at token {len(table) * block_size}, before {end}")
    begin, stop = start // block_size, blocks_for(end, block_size)
    slots = [block * block_size + place for block in table[begin:stop] for place in range(block_size)]
    return slots[start - begin * block_size : end - begin * block_size] if start < end else []
