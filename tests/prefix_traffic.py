"""What the tests of the prefix cache are built on: a block pool that can be trusted, sequences that come and go, a plain
model of what is cached, and a count of the work that a call does.

Nothing here comes from the answer but the cache under test.
"""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

from answer import answer

ALIKE = (0, 2**61 - 1)
"""Two token ids with one hash: code that looks at hashes alone takes one for the other."""


class Pool:
    """A `BlockPool`, which blocks given back last leave first, too."""

    def __init__(self, num_blocks: int, block_size: int) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.free = list(range(num_blocks - 1, -1, -1))
        self.counts = [0] * num_blocks

    @property
    def num_free(self) -> int:
        return len(self.free)

    def references(self, block: int) -> int:
        return self.counts[block]

    def allocate(self, count: int) -> list[int] | None:
        if count < 0:
            raise ValueError(f"can't allocate {count} blocks")
        if count > len(self.free):
            return None
        blocks = [self.free.pop() for _ in range(count)]
        for block in blocks:
            self.counts[block] = 1
        return blocks

    def share(self, blocks: Sequence[int]) -> None:
        self._check(dict.fromkeys(blocks, 1), "shared")
        for block in blocks:
            self.counts[block] += 1

    def release(self, blocks: Sequence[int]) -> None:
        self._check(Counter(blocks), "released")
        for block in blocks:
            self.counts[block] -= 1
            if not self.counts[block]:
                self.free.append(block)

    def _check(self, times: dict[int, int], what: str) -> None:
        for block, count in times.items():
            if not 0 <= block < self.num_blocks or self.counts[block] < count:
                raise ValueError(f"block {block} can't be {what}: it has fewer than {count} references, or does not exist")


Touch = Callable[[Any], Any]


def new_cache(num_blocks: int = 32, block_size: int = 2, touch: Touch | None = None) -> tuple[Any, Pool]:
    """An empty cache. `touch` calls what a test is about, before other tasks are needed: a stub of it is named first."""
    pool = Pool(num_blocks, block_size)
    cache = answer.PrefixCache(pool)
    if touch:
        try:
            touch(cache)
        except NotImplementedError:
            raise
        except Exception:
            return answer.PrefixCache(pool), pool
    return cache, pool


def file_new(cache: Any, pool: Pool, tokens: Sequence[int]) -> list[int]:
    """A table of new blocks for a whole number of blocks of tokens, filed in the cache; duplicates are replaced."""
    table = pool.allocate(len(tokens) // pool.block_size)
    assert table is not None, "the test's pool is too small"
    duplicates = cache.insert(list(tokens), list(table))
    return [duplicates.get(block, block) for block in table]


def file_idle(cache: Any, pool: Pool, tokens: Sequence[int]) -> list[int]:
    """The same, and the table is given back: its blocks are the cache's alone."""
    table = file_new(cache, pool, tokens)
    cache.release(list(table))
    return table


@contextmanager
def changes_nothing(cache: Any, pool: Pool, what: str) -> Iterator[None]:
    """Whatever the block does, references, the blocks of the trie and what can be evicted are as before."""
    __tracebackhide__ = True
    before = _state(cache, pool)
    yield
    after = _state(cache, pool)
    for name, was in before.items():
        assert after[name] == was, f"{what} must change nothing, but {name} changed from {was} to {after[name]}"


def _state(cache: Any, pool: Pool) -> dict[str, Any]:
    return {"references": list(pool.counts), "`blocks`": sorted(cache.blocks), "`evictable`": cache.evictable}


@dataclass
class Running:
    """A sequence that has a table."""

    tokens: list[int]
    table: list[int]


class Traffic:
    """Sequences that come, are filed, and end, with a plain model of what the cache must hold: prefixes in a dictionary.

    After each event the references of every block are what the tables and the trie make them, `blocks` and `evictable` are
    those of the model, and the integrity check, if it is wanted, finds nothing.
    """

    def __init__(self, num_blocks: int, block_size: int, touch: Touch | None = None, check: bool = False) -> None:
        self.cache, self.pool = new_cache(num_blocks, block_size, touch)
        self.check = check
        self.filed: dict[tuple[int, ...], int] = {}
        self.last_used: dict[tuple[int, ...], int] = {}
        self.running: list[Running] = []
        self.clock = 0

    def prefixes(self, tokens: Sequence[int]) -> list[tuple[int, ...]]:
        size = self.pool.block_size
        return [tuple(tokens[:end]) for end in range(size, len(tokens) + 1, size)]

    def cached(self, tokens: Sequence[int]) -> list[int]:
        """The blocks of the longest beginning that is filed."""
        blocks = []
        for prefix in self.prefixes(tokens):
            if prefix not in self.filed:
                break
            blocks.append(self.filed[prefix])
        return blocks

    def look(self, tokens: Sequence[int]) -> Any:
        """Match, and compare with the model."""
        match, blocks = self.cache.match(list(tokens)), self.cached(tokens)
        want = min(len(blocks) * self.pool.block_size, max(len(tokens) - 1, 0))
        assert (list(match.blocks), match.tokens) == (blocks, want), (
            f"of {list(tokens)} in blocks of {self.pool.block_size}, blocks {blocks} are filed, {want} tokens need not be "
            f"computed; the match says {match}"
        )
        return match

    def come(self, tokens: Sequence[int]) -> bool:
        """A new sequence takes what is cached, and new blocks for the rest; False if there are not enough."""
        match = self.look(tokens)
        self.cache.lock(match)
        own = self.pool.allocate(-(-len(tokens) // self.pool.block_size) - len(match.blocks))
        if own is None:
            self.cache.unlock(match)
            self._used(self.prefixes(tokens)[: len(match.blocks)])
        else:
            self.running.append(Running(list(tokens), [*match.blocks, *own]))
        self.compare(f"a sequence of {len(tokens)} tokens came")
        return own is not None

    def file(self, sequence: Running, blocks: int) -> None:
        """So many of its full blocks have been computed."""
        prefixes = self.prefixes(sequence.tokens)[:blocks]
        own = sequence.table[: len(prefixes)]
        want = {mine: self.filed[p] for mine, p in zip(own, prefixes, strict=True) if self.filed.get(p, mine) != mine}
        got = self.cache.insert(sequence.tokens[: len(own) * self.pool.block_size], own)
        assert got == want, f"`insert` returned {got} as duplicates, but {want} are: own block → the one that is filed already"
        for mine, prefix in zip(own, prefixes, strict=True):
            self.filed.setdefault(prefix, mine)
        sequence.table = [got.get(block, block) for block in sequence.table]
        self.compare(f"{len(own)} blocks of a sequence were filed")

    def end(self, sequence: Running) -> None:
        self.running.remove(sequence)
        self.cache.release(sequence.table)
        self._used(self.prefixes(sequence.tokens))
        self.compare("a sequence ended")

    def evict(self, count: int) -> None:
        victims = self._victims(count)
        got = self.cache.evict(count)
        assert got == len(victims), f"`evict({count})` returned {got}, but {len(victims)} blocks can be freed"
        for prefix in victims:
            del self.filed[prefix]
        self.compare(f"{count} blocks were to be evicted")

    def clear(self) -> None:
        victims = self._victims(len(self.filed))
        self.cache.clear()
        for prefix in victims:
            del self.filed[prefix]
        self.compare("the cache was cleared")

    def compare(self, after: str) -> None:
        __tracebackhide__ = True
        held = Counter(block for sequence in self.running for block in sequence.table)
        evictable = sum(not held[block] for block in self.filed.values())
        want = held + Counter(self.filed.values())
        blocks = sorted(self.cache.blocks)
        assert blocks == sorted(self.filed.values()), (
            f"after {after}: `blocks` are {blocks}, but filed and not evicted are {sorted(self.filed.values())}"
        )
        for block, count in enumerate(self.pool.counts):
            assert count == want[block], (
                f"after {after}: block {block} has {count} references, but {held[block]} in tables and "
                f"{want[block] - held[block]} of the trie's own"
            )
        assert self.cache.evictable == evictable, (
            f"after {after}: `evictable` is {self.cache.evictable}, but {evictable} blocks of the trie are in no table"
        )
        if self.check:
            self.cache.check_integrity()

    def _used(self, prefixes: Sequence[tuple[int, ...]]) -> None:
        self.clock += 1
        self.last_used.update(dict.fromkeys(prefixes, self.clock))

    def _victims(self, count: int) -> list[tuple[int, ...]]:
        """Leaves in no table, the least recently used first, one by one."""
        left = dict(self.filed)
        in_use = {block for sequence in self.running for block in sequence.table}
        victims: list[tuple[int, ...]] = []
        while len(victims) < count:
            parents = {prefix[: -self.pool.block_size] for prefix in left}
            leaves = [prefix for prefix, block in left.items() if prefix not in parents and block not in in_use]
            if not leaves:
                break
            victims.append(min(leaves, key=lambda prefix: self.last_used[prefix]))
            del left[victims[-1]]
        return victims


class Counted(int):
    """A token that can be seen to be looked at, since hashing and comparing it runs Python code."""

    def __hash__(self) -> int:
        return int.__hash__(self)

    def __eq__(self, other: object) -> bool:
        return int.__eq__(self, other)  # type: ignore[operator]


def work(call: Callable[[], Any]) -> int:
    """How many lines of Python a call runs, those of loops and of `Counted` tokens each time: no clock is looked at."""
    lines = 0

    def trace(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal lines
        lines += 1
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return lines
