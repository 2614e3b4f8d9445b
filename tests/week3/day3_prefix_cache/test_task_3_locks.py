"""Week 3 Day 3, task 3: a request that uses a block of the trie holds a reference to it, and then it is not evictable."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefix_traffic
from answer import answer
from prefix_traffic import Pool, Traffic, changes_nothing, file_idle, file_new, work
from support import refuses


def touch(cache: Any) -> None:
    cache.lock(answer.Match([], 0))


new_cache = partial(prefix_traffic.new_cache, touch=touch)


def test_task_3_a_table_that_is_given_back_leaves_its_blocks_in_the_trie() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4])
    own = pool.allocate(2)
    assert own is not None
    cache.release([*table, *own])
    assert [pool.references(block) for block in [*table, *own]] == [1, 1, 0, 0], (
        "blocks that were filed keep the trie's reference; the others are free"
    )
    assert cache.evictable == 2, "only the trie holds its two blocks now"
    assert cache.match([1, 2, 3, 4, 5]).blocks == table, "and they are found"


def test_task_3_a_locked_match_is_not_evictable() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4, 5, 6])
    match = cache.match([1, 2, 3, 4, 9])
    cache.lock(match)
    assert [pool.references(block) for block in table] == [2, 2, 1], "a reference to each block of the match"
    assert cache.evictable == 1, "of three blocks two are in use"
    cache.unlock(match)
    assert [pool.references(block) for block in table] == [1, 1, 1], "`unlock` gives back what `lock` took"
    assert cache.evictable == 3, "all three are the trie's alone again"


def test_task_3_two_who_hold_a_block_must_both_give_it_back() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4])
    match = cache.match([1, 2, 3, 4, 5])
    cache.lock(match)
    cache.lock(match)
    assert [pool.references(block) for block in table] == [3, 3]
    cache.unlock(match)
    assert cache.evictable == 0, "one of two has given the blocks back, the other still reads them"
    cache.release(table)
    assert cache.evictable == 2, "the second gave back its table"


def test_task_3_whoever_computed_a_block_holds_it_too() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2])
    match = cache.match([1, 2, 3])
    cache.lock(match)
    cache.unlock(match)
    assert cache.evictable == 0, "the sequence that filed the block still has it in its table"
    cache.release(table)
    assert cache.evictable == 1


def test_task_3_a_duplicate_makes_its_caller_a_holder_of_the_tries_block() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4])
    other = file_new(cache, pool, [1, 2, 3, 4, 5, 6])
    assert other[:2] == table
    assert cache.evictable == 0, "the caller of `insert` now holds the blocks of which it had duplicates"
    cache.release(other)
    assert cache.evictable == 3, "and gives them back with its table"


def test_task_3_part_of_a_table_can_be_given_back_from_its_end() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4, 5, 6])
    cache.release(table[2:])
    assert cache.evictable == 1, "the third block is given back, and held by the trie alone: it can go"
    cache.release(table[:2])
    assert cache.evictable == 3, "now the other two are held by the trie alone, too"


def test_task_3_a_match_of_nothing_can_be_locked() -> None:
    cache, pool = new_cache()
    file_idle(cache, pool, [1, 2])
    match = cache.match([3, 4])
    with changes_nothing(cache, pool, "a lock on nothing"):
        cache.lock(match)
        cache.unlock(match)
        cache.release([])


def test_task_3_a_match_can_be_locked_when_more_was_filed_since() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2])
    match = cache.match([1, 2, 3, 4])
    file_idle(cache, pool, [1, 2, 3, 4])
    cache.lock(match)
    assert pool.references(table[0]) == 2, "the trie and the lock each hold the block that was matched"


def test_task_3_two_tables_can_be_given_back_at_once() -> None:
    cache, pool = new_cache()
    one, other = file_new(cache, pool, [1, 2, 3, 4]), file_new(cache, pool, [1, 2, 5, 6])
    assert one[0] == other[0]
    cache.release([*one, *other])
    assert pool.references(one[0]) == 1, "block 0 is listed twice: both references are given back"
    assert cache.evictable == 3


def of_a_free_block(cache: Any, pool: Pool, table: list[int]) -> Any:
    return answer.Match([20], 2)


def of_somebody_elses_block(cache: Any, pool: Pool, table: list[int]) -> Any:
    own = pool.allocate(1)
    assert own is not None
    return answer.Match([*table[:1], *own], 4)


def without_its_beginning(cache: Any, pool: Pool, table: list[int]) -> Any:
    return answer.Match(table[1:], 4)


def with_a_gap(cache: Any, pool: Pool, table: list[int]) -> Any:
    return answer.Match([table[0], table[2]], 4)


def from_two_branches(cache: Any, pool: Pool, table: list[int]) -> Any:
    other = file_idle(cache, pool, [7, 8, 9, 9])
    return answer.Match([table[0], other[1]], 4)


@pytest.mark.parametrize(
    "made", [of_a_free_block, of_somebody_elses_block, without_its_beginning, with_a_gap, from_two_branches]
)
def test_task_3_blocks_that_are_no_path_of_the_trie_are_not_locked(made: Callable[[Any, Pool, list[int]], Any]) -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4, 5, 6])
    match = made(cache, pool, table)
    what = f"a match {made.__name__.replace('_', ' ')}, as blocks that were evicted and given to others leave behind"
    with changes_nothing(cache, pool, f"`lock` of {what}, is refused, and"), refuses(ValueError, f"`lock` of {what}", "block "):
        cache.lock(match)


def test_task_3_what_nobody_holds_can_not_be_given_back() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4])
    with (
        changes_nothing(cache, pool, "a refused `release`"),
        refuses(ValueError, "the only reference is the trie's own: giving it back would free a block of the trie", "block "),
    ):
        cache.release(table)
    with (
        changes_nothing(cache, pool, "a refused `unlock`"),
        refuses(ValueError, "an `unlock` without a `lock`", "block "),
    ):
        cache.unlock(cache.match([1, 2, 3, 4, 5]))


def test_task_3_what_is_listed_more_often_than_it_is_held_is_refused() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2])
    with (
        changes_nothing(cache, pool, "a refused `release`"),
        refuses(ValueError, "one reference is the caller's, the other is the trie's own", f"block {table[0]}"),
    ):
        cache.release(table * 2)


def test_task_3_a_free_block_among_them_changes_nothing() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2])
    with changes_nothing(cache, pool, "a refused `release`"), refuses(ValueError, "block 20 is free", "block 20"):
        cache.release([*table, 20])
    with changes_nothing(cache, pool, "a refused `release`"), refuses(ValueError, "block 20 is free", "block 20"):
        cache.release([20, *table])
    own = pool.allocate(1)
    assert own is not None
    again = file_idle(cache, pool, [8, 8])
    with (
        changes_nothing(cache, pool, "a refused `release`"),
        refuses(ValueError, "the second block is not held", f"block {again[0]}"),
    ):
        cache.release([*own, *again])


@settings(max_examples=50)
@given(st.integers(1, 3), st.integers(4, 12), st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 1), max_size=9))))
def test_task_3_references_are_those_of_tables_and_trie(
    block_size: int, num_blocks: int, events: list[tuple[int, list[int]]]
) -> None:
    traffic = Traffic(num_blocks, block_size, touch)
    for choice, tokens in events:
        if tokens and choice < 5:
            traffic.come(tokens)
        elif traffic.running:
            sequence = traffic.running[choice % len(traffic.running)]
            if len(tokens) % 2:
                traffic.end(sequence)
            else:
                traffic.file(sequence, choice)


def lock_among(others: int, call: str) -> int:
    """The work of a call where this many blocks are filed in other sequences, half of them held by the trie alone."""
    cache, pool = new_cache(others + 4, 1)
    for other in range(others):
        (file_idle if other % 2 else file_new)(cache, pool, [other])
    file_idle(cache, pool, [-1, -2, -3, -4])
    match = cache.match([-1, -2, -3, -4, -5])
    if call == "lock":
        return work(lambda: cache.lock(match))
    cache.lock(match)
    if call == "evictable":
        return work(lambda: [cache.evictable for _ in range(4)])
    return work(lambda: getattr(cache, call)(match if call == "unlock" else match.blocks))


@pytest.mark.parametrize("call", ["lock", "unlock", "release", "evictable"])
def test_task_3_the_work_does_not_grow_with_what_is_filed(call: str) -> None:
    few, many = lock_among(20, call), lock_among(1000, call)
    assert many < 2 * few, (
        f"`{call}` of 4 blocks among 20 others runs {few} lines of Python, among 1,000 it runs {many}: keep what is evictable "
        "up to date, and don't look for it"
    )
