"""Week 3 Day 3, task 1: full blocks are filed by their tokens, below what comes before them."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prefix_traffic import ALIKE, Counted, Pool, changes_nothing, file_new, new_cache, work
from support import refuses


def test_task_1_new_blocks_get_a_reference_of_the_tries_own() -> None:
    cache, pool = new_cache()
    table = pool.allocate(3)
    assert table is not None
    duplicates = cache.insert([1, 2, 3, 4], table[:2])
    assert duplicates == {}, "nothing was filed before, so nothing is a duplicate"
    assert [cache.holds(block) for block in table] == [True, True, False], "two blocks were filed, the third was not"
    assert sorted(cache.blocks) == sorted(table[:2]), "`blocks` are those that were filed"
    assert [pool.references(block) for block in table] == [2, 2, 1], "one reference of the caller, and one of the trie"


def test_task_1_what_is_filed_takes_no_second_reference() -> None:
    cache, pool = new_cache()
    table = pool.allocate(3)
    assert table is not None
    cache.insert([1, 2, 3, 4], table[:2])
    assert cache.insert([1, 2, 3, 4, 5, 6], table) == {}, "a block is no duplicate of itself"
    assert [pool.references(block) for block in table] == [2, 2, 2], (
        "a sequence files its blocks again when it has a further one: the trie has one reference to each, however often"
    )


def test_task_1_of_two_blocks_with_the_same_tokens_one_is_filed() -> None:
    cache, pool = new_cache()
    first, second = file_new(cache, pool, [1, 2, 3, 4]), pool.allocate(2)
    assert second is not None
    assert cache.insert([1, 2, 3, 4], second) == dict(zip(second, first, strict=True)), (
        "both blocks of the second table are duplicates: {own: the trie's}"
    )
    assert [pool.references(block) for block in second] == [0, 0], "the duplicates are given back"
    assert [pool.references(block) for block in first] == [3, 3], (
        "both callers and the trie hold the blocks that were filed first: the reference of the second caller moves there"
    )
    assert not any(cache.holds(block) for block in second)


def test_task_1_a_duplicate_that_others_hold_too_stays_theirs() -> None:
    cache, pool = new_cache()
    (first,), second = file_new(cache, pool, [1, 2]), pool.allocate(1)
    assert second is not None
    pool.share(second)  # a second table holds it
    cache.insert([1, 2], second)
    assert (pool.references(second[0]), pool.references(first)) == (1, 3), "only the caller's reference moves"


def test_task_1_what_follows_a_duplicate_is_filed_below_the_tries_block() -> None:
    cache, pool = new_cache()
    first = file_new(cache, pool, [1, 2])
    longer = file_new(cache, pool, [1, 2, 3, 4])
    assert longer[0] == first[0]
    third = pool.allocate(2)
    assert third is not None
    assert cache.insert([1, 2, 3, 4], third) == dict(zip(third, longer, strict=True)), (
        f"the tokens are in {longer}: the second block was filed when the first was a duplicate"
    )


def test_task_1_branches_share_what_they_have_in_common() -> None:
    cache, pool = new_cache()
    tables = [file_new(cache, pool, [1, 2, *tail]) for tail in ([3, 4], [5, 6], [7, 8])]
    assert len({table[0] for table in tables}) == 1, "the first block has the same tokens in all three"
    assert len({table[1] for table in tables}) == 3, "the second has not"
    assert sorted(cache.blocks) == sorted({block for table in tables for block in table})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, 2, 5, 6], [3, 4, 5, 6]),
        ([1, 2, 1, 2, 5, 6], [1, 2, 5, 6, 1, 2]),
        ([1, 2, 3, 4], [3, 4, 1, 2]),
        ([1, 2], [2, 1]),
        ([0, 3], [1, 2]),
        ([1, 12], [11, 2]),
        ([1, 1], [1, 2]),
        ([1, 2], [2, 2]),
        ([ALIKE[0], 5], [ALIKE[1], 5]),
        ([-1, 5], [-2, 5]),
    ],
)
def test_task_1_other_tokens_are_another_block(one: list[int], other: list[int]) -> None:
    cache, pool = new_cache()
    file_new(cache, pool, one)
    table = pool.allocate(len(other) // 2)
    assert table is not None
    duplicates = cache.insert(other, table)
    shared = sum(one[: 2 * i] == other[: 2 * i] for i in range(1, len(other) // 2 + 1))
    assert len(duplicates) == shared, (
        f"{other} after {one} in blocks of 2: {shared} blocks have the same tokens and the same before them, not "
        f"{len(duplicates)}: compare the tokens themselves, not a hash of them"
    )


def test_task_1_lists_that_the_caller_goes_on_using_are_not_kept() -> None:
    cache, pool = new_cache()
    tokens, table = [1, 2, 3, 4], pool.allocate(2)
    assert table is not None
    kept = list(table)
    cache.insert(tokens, table)
    tokens[:], table[:] = [9, 9, 9, 9], [30, 31]
    other = pool.allocate(2)
    assert other is not None
    assert cache.insert([1, 2, 3, 4], other) == dict(zip(other, kept, strict=True)), (
        "the caller's lists grow and change after they were filed: keep what they held"
    )
    assert sorted(cache.blocks) == sorted(kept)


def test_task_1_blocks_is_a_list_of_the_callers_own() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2])
    cache.blocks.clear()
    assert cache.blocks == table, "a caller of `blocks` may do with the list what it likes"


def test_task_1_the_lists_given_are_left_as_they_are() -> None:
    cache, pool = new_cache()
    file_new(cache, pool, [1, 2])
    table = pool.allocate(2)
    assert table is not None
    tokens, before = [1, 2, 3, 4], list(table)
    cache.insert(tokens, table)
    assert (tokens, table) == ([1, 2, 3, 4], before), "the caller replaces duplicates in its table, `insert` only says which"


def test_task_1_a_tuple_of_tokens_is_a_sequence_too() -> None:
    cache, pool = new_cache()
    (first,), own = file_new(cache, pool, [1, 2]), pool.allocate(1)
    assert own is not None
    assert cache.insert((1, 2), tuple(own)) == {own[0]: first}, "tokens may come as a tuple"


def test_task_1_nothing_to_file() -> None:
    cache, _ = new_cache()
    assert cache.insert([], []) == {}, "no tokens and no blocks: nothing to do"


def other_place(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    (block,) = file_new(cache, pool, [1, 2])
    return [3, 4], [block]


def other_depth(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    table = file_new(cache, pool, [1, 2, 1, 2])
    return [1, 2], table[1:]


def below_itself(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    (block,) = file_new(cache, pool, [1, 2])
    own = pool.allocate(1)
    assert own is not None
    return [1, 2, 3, 4], [*own, block]


def free_block(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    own = pool.allocate(2)
    assert own is not None
    pool.release(own[1:])
    return [1, 2, 3, 4], own


def free_duplicate(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    file_new(cache, pool, [1, 2])
    own = pool.allocate(1)
    assert own is not None
    pool.release(own)
    return [1, 2], own


def listed_twice(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    own = pool.allocate(1)
    assert own is not None
    return [1, 2, 3, 4], own * 2


def duplicate_listed_twice(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    file_new(cache, pool, [1, 2])
    own = pool.allocate(1)
    assert own is not None
    pool.share(own)
    return [1, 2, 3, 4], own * 2


def held_by_the_trie_alone(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    table = file_new(cache, pool, [1, 2])
    pool.release(table)  # behind the cache's back, so that this test needs no later task
    return [1, 2], table


def too_few_tokens(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    own = pool.allocate(2)
    assert own is not None
    return [1, 2, 3], own


def too_many_tokens(cache: Any, pool: Pool) -> tuple[list[int], list[int]]:
    own = pool.allocate(2)
    assert own is not None
    return [1, 2, 3, 4, 5], own


@pytest.mark.parametrize(
    ("made", "named", "what"),
    [
        (other_place, "block 0", "a block that is filed with other tokens"),
        (other_depth, "block 1", "a block that is filed with the same tokens further down"),
        (below_itself, "block 0", "a block that is filed at another place of the same sequence"),
        (free_block, "block ", "a block that is not held"),
        (free_duplicate, "block ", "a duplicate that is not held"),
        (listed_twice, "", "a block that is listed twice"),
        (duplicate_listed_twice, "", "a duplicate that is listed twice"),
        (held_by_the_trie_alone, "block 0", "a block that is filed, and that the caller does not hold"),
        (too_few_tokens, "", "a last block that is filled in part"),
        (too_many_tokens, "", "a token beyond the blocks"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_task_1_a_table_that_is_none_is_refused(
    made: Callable[[Any, Pool], tuple[list[int], list[int]]], named: str, what: str
) -> None:
    cache, pool = new_cache()
    tokens, blocks = made(cache, pool)
    with changes_nothing(cache, pool, f"`insert` of {what} is refused, and"), refuses(ValueError, f"`insert` of {what}", named):
        cache.insert(tokens, blocks)
    own = pool.allocate(2)
    assert own is not None
    cache.insert([7, 7, 8, 8], own)  # what was refused is not in the way


@given(st.integers(1, 3), st.lists(st.lists(st.integers(0, 1), max_size=8), max_size=12))
def test_task_1_each_prefix_is_filed_once(block_size: int, sequences: list[list[int]]) -> None:
    cache, pool = new_cache(200, block_size)
    filed: dict[tuple[int, ...], int] = {}
    for tokens in sequences:
        whole = tokens[: len(tokens) // block_size * block_size]
        prefixes = [tuple(whole[:end]) for end in range(block_size, len(whole) + 1, block_size)]
        own = pool.allocate(len(prefixes))
        assert own is not None
        want = {block: filed[p] for block, p in zip(own, prefixes, strict=True) if p in filed}
        got = cache.insert(whole, own)
        assert got == want, f"{whole} after {sorted(filed)}: duplicates are {want}, not {got}"
        filed = dict(zip(prefixes, own, strict=True)) | filed
    assert sorted(cache.blocks) == sorted(filed.values()), "`blocks` has one block for each prefix that was filed"
    assert sum(pool.counts) == len(filed) + sum(len(tokens) // block_size for tokens in sequences), (
        "one reference for each block of a table, and one for each of the trie"
    )


def insert_among(others: int, length: int = 4) -> int:
    """The work of filing one sequence of this many blocks where this many others are filed."""
    cache, pool = new_cache(others + 2 * length, 1)
    for other in range(others):
        file_new(cache, pool, [other])
    own = pool.allocate(length)
    assert own is not None
    return work(lambda: cache.insert([Counted(-7)] * length, own))


def test_task_1_the_work_does_not_grow_with_what_is_filed() -> None:
    few, many = insert_among(10), insert_among(1000)
    assert many < 2 * few, (
        f"filing 4 blocks among 10 others runs {few} lines of Python, among 1,000 it runs {many}: a dictionary finds a block"
        " without a look at the others"
    )


def test_task_1_the_work_is_proportional_to_the_blocks() -> None:
    short, long = insert_among(10, 20), insert_among(10, 200)
    assert long < 15 * short, (
        f"filing 20 blocks runs {short} lines of Python, filing 200 runs {long}: look at each token once, not at everything"
        " before it for each block"
    )
