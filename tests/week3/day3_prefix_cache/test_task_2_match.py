"""Week 3 Day 3, task 2: the longest beginning that is cached, of which at least the last token is left to be computed."""

from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefix_traffic
from answer import answer
from prefix_traffic import ALIKE, Counted, Traffic, changes_nothing, file_new, work


def touch(cache: Any) -> None:
    cache.match([])


new_cache = partial(prefix_traffic.new_cache, touch=touch)


def test_task_2_an_empty_cache_has_nothing() -> None:
    cache, _ = new_cache()
    assert cache.match([1, 2, 3]) == answer.Match([], 0), "nothing is filed yet: a match of no blocks and no tokens"


@pytest.mark.parametrize(
    ("tokens", "blocks", "hit"),
    [
        ([1, 2, 3, 4, 5, 6, 7], 3, 6),
        ([1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 6),
        ([1, 2, 3, 4, 5, 9], 2, 4),
        ([1, 2, 3, 4, 5], 2, 4),
        ([1, 2, 3, 9, 5, 6], 1, 2),
        ([1, 2, 9], 1, 2),
        ([9, 2, 3, 4, 5, 6], 0, 0),
        ([3, 4, 5, 6], 0, 0),
        ([1], 0, 0),
        ([], 0, 0),
    ],
)
def test_task_2_the_longest_beginning_in_full_blocks(tokens: list[int], blocks: int, hit: int) -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4, 5, 6])
    assert cache.match(tokens) == answer.Match(table[:blocks], hit), (
        f"1 … 6 are cached in blocks of 2: of {tokens}, {blocks} blocks and {hit} tokens are there"
    )


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_task_2_of_a_prompt_that_is_cached_in_whole_the_last_token_is_computed(blocks: int) -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4, 5, 6])
    tokens = [1, 2, 3, 4, 5, 6][: 2 * blocks]
    assert cache.match(tokens) == answer.Match(table[:blocks], len(tokens) - 1), (
        f"all {len(tokens)} tokens are cached, but the last one's logits are wanted: it is computed again; its block is "
        "in the match, and used without it"
    )


def test_task_2_blocks_of_one_token() -> None:
    cache, pool = new_cache(block_size=1)
    table = file_new(cache, pool, [5, 6])
    assert cache.match([5, 6]) == answer.Match(table, 1), "all tokens are cached: the last one is computed again"
    assert cache.match([5]) == answer.Match(table[:1], 0), "the only token is cached: it is computed again"


def test_task_2_each_branch_is_found() -> None:
    cache, pool = new_cache()
    tables = {last: file_new(cache, pool, [1, 2, last, last]) for last in (3, 4, 5)}
    for last, table in tables.items():
        assert cache.match([1, 2, last, last, 0]).blocks == table, f"1, 2, {last}, {last} are in blocks {table}"


def test_task_2_a_sequence_that_was_filed_in_steps_is_found_in_whole() -> None:
    cache, pool = new_cache()
    table = pool.allocate(3)
    assert table is not None
    for blocks in (1, 2, 3):
        cache.insert([1, 2, 3, 4, 5, 6][: 2 * blocks], table[:blocks])
        assert cache.match([1, 2, 3, 4, 5, 6, 7]) == answer.Match(table[:blocks], 2 * blocks), (
            f"{blocks} blocks are filed by now: look again each time"
        )


@pytest.mark.parametrize("tokens", [(ALIKE[1], 5, 6), (-2, 5, 6)])
def test_task_2_tokens_with_the_same_hash_are_not_the_same(tokens: tuple[int, ...]) -> None:
    cache, pool = new_cache()
    file_new(cache, pool, [ALIKE[0], 5])
    file_new(cache, pool, [-1, 5])
    assert cache.match(tokens).blocks == [], f"{tokens[:2]} was never filed, though Python's hash of it was: compare the tokens"


def test_task_2_looking_changes_nothing() -> None:
    cache, pool = new_cache()
    file_new(cache, pool, [1, 2, 3, 4])
    with changes_nothing(cache, pool, "`match`"):
        first = cache.match([1, 2, 3, 4])
        second = cache.match([1, 2, 3, 4])
        cache.match([1, 2, 9, 9])
    assert first == second, "the same question twice has the same answer"
    assert cache.match([1, 2, 9, 9, 9]).blocks == cache.match([1, 2]).blocks, "what was looked for in vain is not filed by that"


def test_task_2_a_match_is_a_list_of_its_own() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2, 3, 4])
    cache.match([1, 2, 3, 4, 5]).blocks.append(9)
    assert cache.match([1, 2, 3, 4, 5]).blocks == table, "a caller makes its table of the blocks: this must not touch the trie"


def test_task_2_a_match_stays_as_it_was_when_more_is_filed() -> None:
    cache, pool = new_cache()
    table = pool.allocate(2)
    assert table is not None
    cache.insert([1, 2], table[:1])
    match = cache.match([1, 2, 3, 4, 5])
    cache.insert([1, 2, 3, 4], table)
    cache.match([1, 2, 3, 4, 5])
    assert match == answer.Match(table[:1], 2), "a match says what was there when it was made"


def test_task_2_a_tuple_of_tokens_is_found_too() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 2])
    assert cache.match((1, 2, 3)) == answer.Match(table, 2), "tokens come as a tuple or as a list: they are the same prompt"


@settings(max_examples=50)
@given(
    st.integers(1, 3),
    st.lists(st.lists(st.integers(0, 1), max_size=9), max_size=8),
    st.lists(st.lists(st.integers(0, 1), max_size=10), min_size=1, max_size=8),
)
def test_task_2_what_is_found_is_what_was_filed(block_size: int, filed: list[list[int]], asked: list[list[int]]) -> None:
    traffic = Traffic(100, block_size, touch)
    for tokens in filed:
        whole = tokens[: len(tokens) // block_size * block_size]
        table = file_new(traffic.cache, traffic.pool, whole)
        for prefix, block in zip(traffic.prefixes(whole), table, strict=True):
            traffic.filed.setdefault(prefix, block)
    for tokens in [*asked, *filed]:
        traffic.look(tokens)


def match_among(others: int, length: int = 4) -> int:
    """The work of finding this many blocks where this many others are filed."""
    cache, pool = new_cache(others + length, 1)
    for other in range(others):
        file_new(cache, pool, [other])
    file_new(cache, pool, [Counted(-7)] * length)
    return work(lambda: cache.match([Counted(-7)] * length))


def test_task_2_the_work_does_not_grow_with_what_is_filed() -> None:
    few, many = match_among(10), match_among(1000)
    assert many < 2 * few, (
        f"finding 4 blocks among 10 others runs {few} lines of Python, among 1,000 it runs {many}: a dictionary finds a block "
        "without a look at the others"
    )


def test_task_2_the_work_is_proportional_to_the_blocks() -> None:
    short, long = match_among(10, 20), match_among(10, 200)
    assert long < 15 * short, (
        f"finding 20 blocks runs {short} lines of Python, finding 200 runs {long}: look at each token once, not at everything "
        "before it for each block"
    )


def test_task_2_the_work_ends_where_nothing_more_is_found() -> None:
    cache, pool = new_cache(4, 1)
    file_new(cache, pool, [5])
    short, long = (work(lambda length=length: cache.match([Counted(5)] + [Counted(6)] * length)) for length in (20, 2000))
    assert long < 150 * short, f"a miss after one block: {short} lines of Python with 20 tokens to come, {long} with 2,000"
