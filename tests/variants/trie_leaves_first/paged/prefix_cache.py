"""The trie is walked once, block by block; what is given back is put in order by counting who still has something below."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from tiny_llm_kit.course import task


class PrefixCache:
    @task(week=3, day=3, number=1)
    def insert(self, tokens: Sequence[int], blocks: Sequence[int]) -> dict[int, int]:
        size = self.pool.block_size
        if len(tokens) / size != len(blocks):
            raise ValueError(f"{len(tokens)} tokens are not {len(blocks)} blocks of {size}")
        there = list(self._down(tokens))
        seen: set[int] = set()
        for place, block in enumerate(blocks):
            filed = place < len(there) and there[place].block == block
            if block in seen or (self.holds(block) and not filed):
                raise ValueError(f"block {block} has other tokens already")
            if self.pool.references(block) - filed <= 0:
                raise ValueError(f"block {block} is not held by who wants to file it")
            seen.add(block)
        swapped = {}
        for own, node in zip(blocks, there, strict=False):
            if own != node.block:
                self.pool.share([node.block])
                self._idle.pop(node.block, None)
                self.pool.release([own])
                swapped[own] = node.block
        above = there[-1] if there else self._root
        for place in range(len(there), len(blocks)):
            node = Node(tuple(tokens[place * size : (place + 1) * size]), blocks[place], above, place + 1)
            self.pool.share([node.block])
            above.children |= {node.tokens: node}
            self._nodes[node.block] = above = node
        return swapped

    def _down(self, tokens: Sequence[int]) -> Iterator[Node]:
        size, node = self.pool.block_size, self._root
        while len(tokens) >= (node.depth + 1) * size:
            below = node.children.get(tuple(tokens[node.depth * size : (node.depth + 1) * size]))
            if below is None:
                return
            yield below
            node = below

    @task(week=3, day=3, number=2)
    def match(self, tokens: Sequence[int]) -> Match:
        blocks = [node.block for node in self._down(tokens)]
        found = len(blocks) * self.pool.block_size
        return Match(blocks, found - (found > 0 and found == len(tokens)))

    @task(week=3, day=3, number=3)
    def lock(self, match: Match) -> None:
        path = [self._root, *(self._nodes.get(block) for block in match.blocks)]
        for block, (above, node) in zip(match.blocks, pairwise(path), strict=True):
            if node is None or node.parent is not above:
                raise ValueError(f"block {block} does not come next (any more) in a match of {match.blocks}")
        for block in match.blocks:
            self.pool.share([block])
            if block in self._idle:
                del self._idle[block]

    @task(week=3, day=3, number=3)
    def unlock(self, match: Match) -> None:
        self.release(match.blocks[::-1])

    @task(week=3, day=3, number=3)
    def release(self, blocks: Sequence[int]) -> None:
        for block, times in Counter(blocks).items():
            if self.holds(block) and times > self.pool.references(block) - 1:
                raise ValueError(f"block {block} has {self.pool.references(block) - 1} holders, and {times} give it back")
        self.pool.release(blocks)
        free = {block for block in blocks if self.holds(block) and self.pool.references(block) == 1}
        # How many blocks below one have to come before it.
        first = Counter(self._nodes[block].parent.block for block in free)
        ready = [block for block in free if not first[block]]
        while ready:
            block = ready.pop()
            self._idle[block] = None
            above = self._nodes[block].parent.block
            first[above] -= 1
            if above in free and first[above] == 0:
                ready.append(above)

    @task(week=3, day=3, number=4)
    def evict(self, count: int) -> int:
        freed = 0
        for _ in range(min(count, self.evictable)):
            block = next(iter(self._idle))
            del self._idle[block]
            node = self._nodes.pop(block)
            node.parent.children.pop(node.tokens)
            self.pool.release([block])
            freed += 1
        return freed

    @task(week=3, day=3, number=4)
    def clear(self) -> None:
        while self.evict(1):
            pass

    @task(week=3, day=3, number=5)
    def check_integrity(self) -> None:
        held_below: Counter[int] = Counter()
        for block, node in self._nodes.items():
            tables, above = self.pool.references(block) - 1, node.parent
            if above.children.get(node.tokens) is not node or node.depth != above.depth + 1:
                raise RuntimeError(f"block {block} is not below block {above.block}")
            if above is not self._root and self._nodes.get(above.block) is not above:
                raise RuntimeError(f"block {above.block}, above block {block}, is gone")
            if tables < 0:
                raise RuntimeError(f"block {block} is in the trie and free")
            if (tables == 0) is not (block in self._idle):
                raise RuntimeError(f"block {block} is in {tables} tables: that decides whether it can be evicted")
            held_below[above.block] += tables
        for block, node in self._nodes.items():
            if held_below[block] > self.pool.references(block) - 1:
                raise RuntimeError(f"tables hold what is below block {block}, and not the block itself")
            if any(self._nodes.get(below.block) is not below for below in node.children.values()):
                raise RuntimeError(f"block {block} has something below it that is not in the trie")
        if strange := [block for block in self._idle if block not in self._nodes]:
            raise RuntimeError(f"block {strange[0]} can be evicted, and is not in the trie")
