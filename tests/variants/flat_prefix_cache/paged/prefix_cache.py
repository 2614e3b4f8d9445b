"""One dictionary finds a block by the one before it and its own tokens; a heap, cleaned up when it is used, has the leaves."""

import heapq
from collections import Counter
from collections.abc import Sequence

from tiny_llm_kit.course import task

from .block_pool import BlockPool


class PrefixCache:
    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.after: dict[tuple[int | None, tuple[int, ...]], int] = {}
        self.place: dict[int, tuple[int | None, tuple[int, ...]]] = {}
        self.below: Counter[int | None] = Counter()
        self.unused = 0
        self.clock = 0
        self.last_use: dict[int, int] = {}
        self.leaves: list[tuple[int, int]] = []

    @property
    def evictable(self) -> int:
        return self.unused

    @property
    def blocks(self) -> list[int]:
        return sorted(self.place)

    def holds(self, block: int) -> bool:
        return block in self.place

    @task(week=3, day=3, number=1)
    def insert(self, tokens: Sequence[int], blocks: Sequence[int]) -> dict[int, int]:
        size, found = self.pool.block_size, self._walk(tokens)
        if len(tokens) != size * len(blocks) or len(set(blocks)) < len(blocks):
            raise ValueError(f"{len(tokens)} tokens do not fill blocks {list(blocks)}, each once")
        for block, there in zip(blocks, found + [None] * len(blocks), strict=False):
            if self.pool.references(block) < (2 if block == there else 1) or (block in self.place and block != there):
                raise ValueError(f"block {block} is free, not the caller's, or in the cache with other tokens")
        swapped = {}
        before = None
        for i, own in enumerate(blocks):
            if i < len(found):
                if own != found[i]:
                    swapped[own] = found[i]
                    self._take(found[i])
                    self.pool.release([own])
                before = found[i]
                continue
            key = (before, tuple(tokens[i * size : i * size + size]))
            self.after[key], self.place[own] = own, key
            self.below[before] += 1
            self.pool.share([own])
            before = own
        return swapped

    @task(week=3, day=3, number=2)
    def match(self, tokens: Sequence[int]) -> Match:
        found = self._walk(tokens)
        hit = len(found) * self.pool.block_size
        return Match(found, hit - 1 if found and hit == len(tokens) else hit)

    def _walk(self, tokens: Sequence[int]) -> list[int]:
        size = self.pool.block_size
        found: list[int] = []
        while len(tokens) >= (len(found) + 1) * size:
            part = tuple(tokens[len(found) * size : (len(found) + 1) * size])
            block = self.after.get((found[-1] if found else None, part))
            if block is None:
                break
            found.append(block)
        return found

    @task(week=3, day=3, number=3)
    def lock(self, match: Match) -> None:
        for before, block in zip([None, *match.blocks], match.blocks, strict=False):
            if self.place.get(block, (-1,))[0] != before:
                raise ValueError(f"block {block} does not follow block {before} (any more)")
        for block in match.blocks:
            self._take(block)

    def _take(self, block: int) -> None:
        self.unused -= self.pool.references(block) == 1
        self.pool.share([block])

    @task(week=3, day=3, number=3)
    def unlock(self, match: Match) -> None:
        self.release(match.blocks)

    @task(week=3, day=3, number=3)
    def release(self, blocks: Sequence[int]) -> None:
        for block, times in Counter(blocks).items():
            if block in self.place and self.pool.references(block) - times < 1:
                raise ValueError(f"block {block} is not held {times} times by tables")
        self.pool.release(blocks)
        self.clock += 1
        for block in set(blocks) & self.place.keys():
            if self.pool.references(block) == 1:
                self.unused += 1
                self.last_use[block] = self.clock
                self._offer(block)

    def _offer(self, block: int) -> None:
        if not self.below[block] and self.pool.references(block) == 1:
            heapq.heappush(self.leaves, (self.last_use[block], block))

    @task(week=3, day=3, number=4)
    def evict(self, count: int) -> int:
        freed = 0
        while freed < count and self.leaves:
            when, block = heapq.heappop(self.leaves)
            if block not in self.place or self.below[block] or self.pool.references(block) > 1 or self.last_use[block] != when:
                continue
            before, _ = key = self.place.pop(block)
            del self.after[key], self.last_use[block]
            self.below[before] -= 1
            self.unused -= 1
            self.pool.release([block])
            if before is not None:
                self._offer(before)
            freed += 1
        return freed

    @task(week=3, day=3, number=4)
    def clear(self) -> None:
        while self.unused:
            self.evict(1)

    @task(week=3, day=3, number=5)
    def check_integrity(self) -> None:
        tables = {block: self.pool.references(block) - 1 for block in self.place}
        under: Counter[int | None] = Counter()
        for block, (before, _) in self.place.items():
            under[before] += tables[block]
            if tables[block] < 0 or (before is not None and before not in self.place):
                raise RuntimeError(f"block {block} is free, or the block before it, {before}, is not in the cache")
        for block, held in tables.items():
            if under[block] > held:
                raise RuntimeError(f"block {block} is in {held} tables, and what follows it in {under[block]}")
            if not held and block not in self.last_use:
                raise RuntimeError(f"block {block} can't be evicted, and nobody uses it")
        if sum(not held for held in tables.values()) != self.unused:
            wrong = [block for block, held in tables.items() if held and block in self.last_use]
            raise RuntimeError(f"{self.unused} blocks are said to be evictable; look at block {wrong}")
