"""Week 3 Day 3, task 5: the integrity check is silent while all is well, and names a block when it is not."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefix_traffic
from prefix_traffic import Traffic, changes_nothing, file_idle, file_new
from support import refuses


def touch(cache: Any) -> None:
    cache.check_integrity()


new_cache = partial(prefix_traffic.new_cache, touch=touch)


@settings(max_examples=50)
@given(
    st.integers(1, 3),
    st.integers(3, 12),
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.lists(st.integers(0, 1), max_size=9)), min_size=3),
)
def test_task_5_all_is_well_in_any_traffic(block_size: int, num_blocks: int, events: list[tuple[int, int, list[int]]]) -> None:
    traffic = Traffic(num_blocks, block_size, touch, check=True)
    traffic.compare("nothing")
    for kind, choice, tokens in events:
        if kind < 5 and tokens:
            if not traffic.come(tokens):
                traffic.evict(choice)
        elif traffic.running:
            sequence = traffic.running[choice % len(traffic.running)]
            traffic.file(sequence, choice)
            if kind > 6:
                traffic.end(sequence)
    for sequence in list(traffic.running):
        traffic.end(sequence)
    traffic.clear()
    assert traffic.pool.num_free == num_blocks, "when all sequences have ended and the cache is cleared, all blocks are back"


def test_task_5_matches_that_are_locked_are_well() -> None:
    cache, pool = new_cache()
    file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    for tokens in ([1, 1, 0], [1, 1, 2, 2, 0], [1, 1, 2, 2, 3, 3]):
        cache.lock(cache.match(tokens))
        cache.check_integrity()


def test_task_5_branches_that_are_held_are_well() -> None:
    cache, pool = new_cache()
    for last in (2, 3, 4):
        file_new(cache, pool, [1, 1, last, last])
        cache.check_integrity()


def test_task_5_a_check_changes_nothing() -> None:
    cache, pool = new_cache()
    file_new(cache, pool, [1, 1])
    file_idle(cache, pool, [1, 1, 2, 2])
    with changes_nothing(cache, pool, "a check"):
        cache.check_integrity()


def test_task_5_a_block_of_the_trie_that_was_freed() -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 1, 2, 2])
    pool.release(table[1:])
    with refuses(RuntimeError, f"block {table[1]} is in the trie, and free in the pool", f"block {table[1]}"):
        cache.check_integrity()


def test_task_5_the_tries_reference_is_gone_while_a_table_holds_the_block() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 1])
    pool.release(table)
    with refuses(
        RuntimeError,
        f"one reference is left to block {table[0]}: the table's, and the trie lost its own",
        f"block {table[0]}",
    ):
        cache.check_integrity()


@pytest.mark.parametrize("place", [0, 1])
def test_task_5_a_block_that_is_evictable_and_held(place: int) -> None:
    cache, pool = new_cache()
    table = file_idle(cache, pool, [1, 1, 2, 2])
    pool.share(table[: place + 1])  # behind the cache's back
    with refuses(RuntimeError, "a request holds blocks which the cache would evict", "block "):
        cache.check_integrity()


def test_task_5_a_block_that_is_held_without_the_one_before_it() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 1, 2, 2])
    again = cache.match([1, 1, 2, 2, 0])
    cache.lock(again)
    pool.release(table[:1])
    with refuses(
        RuntimeError,
        f"two hold block {table[1]}, and one holds the block before it, {table[0]}",
        "block ",
    ):
        cache.check_integrity()


def test_task_5_branches_that_are_held_without_the_block_before_them() -> None:
    cache, pool = new_cache()
    one, other = file_new(cache, pool, [1, 1, 2, 2]), file_new(cache, pool, [1, 1, 3, 3])
    assert one[0] == other[0]
    pool.release(one[:1])
    with refuses(RuntimeError, f"block {one[0]} has one holder, and the two blocks below it have one each", f"block {one[0]}"):
        cache.check_integrity()


@pytest.mark.parametrize("wrong", [0, 1, 2, 3])
def test_task_5_wherever_in_the_trie_it_is(wrong: int) -> None:
    cache, pool = new_cache()
    tables = [file_idle(cache, pool, tokens) for tokens in ([1, 1, 2, 2], [1, 1, 3, 3], [4, 4])]
    block = [tables[0][0], tables[0][1], tables[1][1], tables[2][0]][wrong]
    pool.release([block])
    with refuses(RuntimeError, f"block {block} is in the trie, and free in the pool", f"block {block}"):
        cache.check_integrity()
