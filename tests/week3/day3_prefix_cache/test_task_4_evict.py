"""Week 3 Day 3, task 4: blocks that only the trie holds make room for others, leaves first, by last use."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefix_traffic
from answer import answer
from prefix_traffic import Traffic, file_idle, file_new, work
from support import refuses


def touch(cache: Any) -> None:
    cache.evict(0)


new_cache = partial(prefix_traffic.new_cache, touch=touch)


def test_task_4_evicted_blocks_are_free_and_forgotten() -> None:
    cache, pool = new_cache(4)
    table = file_idle(cache, pool, [1, 2, 3, 4])
    assert pool.allocate(3) is None
    assert cache.evict(2) == 2, "both blocks can be freed"
    assert pool.num_free == 4, "the trie's references were the last ones"
    assert not any(cache.holds(block) for block in table)
    assert (cache.blocks, cache.evictable) == ([], 0)
    assert cache.match([1, 2, 3, 4, 5]) == answer.Match([], 0)


def test_task_4_the_end_of_a_sequence_goes_before_its_beginning() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 2, 3, 4, 5, 6])
    for left in (2, 1, 0):
        assert cache.evict(1) == 1
        assert cache.match([1, 2, 3, 4, 5, 6, 7]).blocks == table[:left], (
            f"{left} blocks are left: the first ones, since a block cannot be found without those before it"
        )
        assert sorted(cache.blocks) == sorted(table[:left])


@pytest.mark.parametrize("order", ["as it is", "from its end", "shuffled"])
def test_task_4_the_end_goes_first_whatever_the_order_in_which_a_table_was_given_back(order: str) -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4, 5, 6])
    cache.release({"as it is": table, "from its end": table[::-1], "shuffled": [table[1], table[0], table[2]]}[order])
    cache.evict(1)
    assert cache.match([1, 2, 3, 4, 5, 6, 7]).blocks == table[:2], f"the table was given back {order}"


def test_task_4_two_tables_that_are_given_back_at_once_leave_no_orphans() -> None:
    cache, pool = new_cache()
    one, other = file_new(cache, pool, [1, 2, 3, 4]), file_new(cache, pool, [1, 2, 5, 6])
    cache.release([*one, *other])
    assert cache.evict(2) == 2
    assert cache.blocks == one[:1], "the block that both begin with goes last"


def test_task_4_who_was_used_longest_ago_goes_first() -> None:
    cache, pool = new_cache()
    tables = {first: file_idle(cache, pool, [first, first]) for first in (1, 2, 3)}
    match = cache.match([1, 1, 0])
    cache.lock(match)
    cache.unlock(match)
    for first, left in ((2, [1, 3]), (3, [1]), (1, [])):
        cache.evict(1)
        assert sorted(cache.blocks) == sorted(tables[other][0] for other in left), (
            f"1, 2 and 3 were used in this order, then 1 again: {first} was used longest ago"
        )


def test_task_4_a_block_is_in_use_until_its_last_holder_gives_it_back() -> None:
    cache, pool = new_cache()
    long = file_new(cache, pool, [1, 1])
    brief = file_idle(cache, pool, [2, 2])
    cache.release(long)
    cache.evict(1)
    assert cache.blocks == long, (
        f"block {brief[0]} was filed later, but block {long[0]} was still in use when it was given back"
    )


def test_task_4_of_several_holders_the_last_one_counts() -> None:
    cache, pool = new_cache()
    shared, other = file_idle(cache, pool, [1, 1]), file_idle(cache, pool, [2, 2])
    match = cache.match([1, 1, 0])
    cache.lock(match)
    cache.lock(match)
    cache.unlock(match)
    again = cache.match([2, 2, 0])
    cache.lock(again)
    cache.unlock(again)
    cache.unlock(match)
    cache.evict(1)
    assert cache.blocks == shared, f"the second holder of block {shared[0]} gave it back after block {other[0]} was used"


def test_task_4_filing_the_same_again_is_a_use() -> None:
    cache, pool = new_cache()
    old, new = file_idle(cache, pool, [1, 1]), file_idle(cache, pool, [2, 2])
    file_idle(cache, pool, [1, 1])
    cache.evict(1)
    assert cache.blocks == old, (
        f"block {new[0]} was used longer ago: a sequence with the tokens of block {old[0]} has just ended"
    )


def test_task_4_looking_is_no_use() -> None:
    cache, pool = new_cache()
    looked_at, used = file_idle(cache, pool, [1, 1]), file_idle(cache, pool, [2, 2])
    for _ in range(3):
        cache.match([1, 1, 0])
    cache.evict(1)
    assert cache.blocks == used, f"a `match` that is not locked changes nothing: block {looked_at[0]} was used longest ago"


def test_task_4_a_use_of_the_beginning_is_none_of_the_end() -> None:
    cache, pool = new_cache()
    one, other = file_idle(cache, pool, [1, 1, 2, 2]), file_idle(cache, pool, [3, 3])
    match = cache.match([1, 1, 0])
    cache.lock(match)
    cache.unlock(match)
    cache.evict(1)
    assert sorted(cache.blocks) == sorted([one[0], *other]), f"block {one[1]} has not been used again, only the one before it"


def test_task_4_a_parent_becomes_a_leaf() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    later = file_idle(cache, pool, [4, 4])
    assert cache.evict(3) == 3
    assert cache.blocks == later, (
        f"the blocks {table} were used before block {later[0]}: when its end is gone, a block is a leaf"
    )


def test_task_4_a_beginning_that_all_share_outlives_them() -> None:
    cache, pool = new_cache()
    tables = [file_idle(cache, pool, [1, 1, last, last]) for last in (2, 3, 4)]
    assert cache.evict(3) == 3
    assert cache.blocks == tables[0][:1], "it was used with each of the three, so it goes last"


def test_task_4_prediction_3_of_the_chapter() -> None:
    cache, pool = new_cache()
    r, a, b = file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    c = file_idle(cache, pool, [1, 1, 4, 4])[1]
    left = [r, a, b, c]
    for gone in (b, a, c, r):
        cache.evict(1)
        left.remove(gone)
        assert sorted(cache.blocks) == sorted(left), "r, a, b were given back, then r, c: b, a, c, r is the order of eviction"


def test_task_4_what_is_in_use_is_never_evicted() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    file_idle(cache, pool, [1, 1, 4, 4])
    match = cache.match([1, 1, 2, 2, 9])
    cache.lock(match)
    assert cache.evict(10) == 2, "two blocks are locked, two are not: `evict` says how many it freed"
    assert sorted(cache.blocks) == sorted(table[:2])
    assert cache.evict(10) == 0, "all that is left is in use"
    cache.unlock(match)
    assert cache.evict(10) == 2


def test_task_4_no_more_than_asked() -> None:
    cache, pool = new_cache()
    file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    assert cache.evict(0) == 0
    assert cache.evict(2) == 2
    assert cache.evictable == 1, "two of three were to go"


def test_task_4_nothing_is_found_in_a_block_that_others_have_now() -> None:
    cache, pool = new_cache(2)
    old = file_idle(cache, pool, [1, 1, 2, 2])
    cache.evict(2)
    new = file_new(cache, pool, [3, 3, 4, 4])
    assert set(old) == set(new), "the test means to reuse the blocks"
    assert cache.match([1, 1, 2, 2, 0]) == answer.Match([], 0), "the blocks hold other tokens now"
    assert cache.match([3, 3, 4, 4, 0]) == answer.Match(new, 4)


def test_task_4_what_was_evicted_can_be_filed_again() -> None:
    cache, pool = new_cache()
    file_idle(cache, pool, [1, 1, 2, 2])
    cache.evict(1)
    assert len(file_idle(cache, pool, [1, 1, 2, 2])) == 2, "the block that is gone is filed anew, below the one that stayed"
    assert len(cache.match([1, 1, 2, 2, 0]).blocks) == 2, (
        "an evicted node must be gone from its parent's children, or it hides the new one"
    )


def test_task_4_a_match_that_was_evicted_can_not_be_locked() -> None:
    cache, pool = new_cache(2)
    file_idle(cache, pool, [1, 1, 2, 2])
    match = cache.match([1, 1, 2, 2, 0])
    cache.evict(1)
    with refuses(ValueError, "a match of which the end was evicted", "block "):
        cache.lock(match)
    assert cache.evictable == 1, "nothing was locked"
    own = pool.allocate(1)
    assert own is not None
    with refuses(ValueError, "a match whose last block another request writes to by now", "block "):
        cache.lock(match)
    assert pool.references(own[0]) == 1


def test_task_4_clear_forgets_what_is_not_in_use() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 1])
    file_idle(cache, pool, [1, 1, 2, 2])
    file_idle(cache, pool, [3, 3, 4, 4, 5, 5])
    cache.clear()
    assert cache.blocks == table, "one block is in a table, all others are to be forgotten"
    assert pool.num_free == pool.num_blocks - 1
    cache.release(table)
    cache.clear()
    assert (cache.blocks, cache.evictable, pool.num_free) == ([], 0, pool.num_blocks)


@settings(max_examples=50)
@given(
    st.integers(1, 3),
    st.integers(3, 12),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 1), max_size=9)), min_size=3),
)
def test_task_4_who_goes_is_who_should(block_size: int, num_blocks: int, events: list[tuple[int, int, list[int]]]) -> None:
    traffic = Traffic(num_blocks, block_size, touch)
    for kind, choice, tokens in events:
        if kind < 4 and tokens:
            if not traffic.come(tokens):
                traffic.evict(choice)
        elif kind == 4:
            traffic.evict(choice)
        elif kind == 5 and choice == 0:
            traffic.clear()
        elif traffic.running:
            sequence = traffic.running[choice % len(traffic.running)]
            traffic.file(sequence, len(sequence.table))
            if kind > 6:
                traffic.end(sequence)


def evict_among(others: int) -> int:
    """The work of evicting four blocks where this many others could be evicted, too."""
    cache, pool = new_cache(others + 4, 1)
    for other in range(others):
        file_idle(cache, pool, [other])
    return work(lambda: cache.evict(4))


def test_task_4_the_work_does_not_grow_with_what_is_filed() -> None:
    few, many = evict_among(20), evict_among(2000)
    assert many < 4 * few, (
        f"evicting 4 of 20 blocks runs {few} lines of Python, 4 of 2,000 runs {many}: keep those that can go in order"
    )
