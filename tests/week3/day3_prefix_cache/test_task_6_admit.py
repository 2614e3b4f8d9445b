"""Week 3 Day 3, task 6: a sequence gets what is cached, new blocks for the rest, and a copy of a block that it will write to.

The last tests compute: a tiny model over the paged cache of day 1 says the same after a hit as without a cache.
"""

from functools import partial
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import prefix_traffic
from answer import answer
from oracles import LOGITS, assert_close, mlx_lm_model
from prefix_traffic import Pool, changes_nothing, file_idle, file_new
from ragged import Paged
from support import refuses
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def touch(cache: Any) -> None:
    answer.admit(cache, [])


new_cache = partial(prefix_traffic.new_cache, touch=touch)


def test_task_6_without_a_hit_all_blocks_are_new() -> None:
    cache, pool = new_cache()
    admitted = answer.admit(cache, [1, 2, 3])
    assert admitted is not None
    assert (len(admitted.table), admitted.cached, admitted.copy) == (2, 0, None), (
        "3 tokens need 2 blocks of 2, nothing is cached"
    )
    assert [pool.references(block) for block in admitted.table] == [1, 1]
    assert cache.blocks == [], "nothing has been computed yet, so nothing may be found by others"


def test_task_6_a_hit_begins_the_table() -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 1, 2, 2])
    admitted = answer.admit(cache, [1, 1, 2, 2, 3, 3, 4])
    assert admitted is not None
    assert (admitted.table[:2], len(admitted.table)) == (table, 4), "two blocks are shared, two are new"
    assert (admitted.cached, admitted.copy) == (4, None), "4 tokens are there; the next one begins a block of its own"
    assert [pool.references(block) for block in admitted.table] == [3, 3, 1, 1], "the sequence holds all blocks of its table"
    assert len(set(admitted.table)) == 4


@pytest.mark.parametrize("blocks", [1, 2, 3])
def test_task_6_a_block_that_is_written_to_is_copied(blocks: int) -> None:
    cache, pool = new_cache()
    table = file_new(cache, pool, [1, 1, 2, 2, 3, 3][: 2 * blocks])
    admitted = answer.admit(cache, [1, 1, 2, 2, 3, 3][: 2 * blocks])
    assert admitted is not None
    assert admitted.cached == 2 * blocks - 1, "all is cached, and the last token is computed for its logits"
    assert admitted.table[:-1] == table[:-1]
    own = admitted.table[-1]
    assert not cache.holds(own), "the last token is written into the last block: others read the one that is cached"
    assert admitted.copy == (table[-1], own), "the block's beginning is cached: (source, target)"
    assert [pool.references(block) for block in admitted.table] == [3] * (blocks - 1) + [1]
    assert pool.references(table[-1]) == 2, "the sequence does not hold the original: it is not in its table"


def test_task_6_what_was_found_is_not_evicted_for_what_is_needed() -> None:
    cache, pool = new_cache(4)
    old = file_idle(cache, pool, [1, 1, 2, 2])
    newer = file_idle(cache, pool, [3, 3, 4, 4])
    admitted = answer.admit(cache, [1, 1, 2, 2, 5, 5, 6, 6])
    assert admitted is not None, "of four blocks two are found, and two can be evicted"
    assert (admitted.table[:2], admitted.cached) == (old, 4), (
        "the blocks that were found were used longest ago: lock them first"
    )
    assert set(admitted.table[2:]) == set(newer)
    assert cache.evictable == 0


def test_task_6_no_more_is_evicted_than_is_needed() -> None:
    cache, pool = new_cache(6)
    table = file_idle(cache, pool, [1, 1, 2, 2, 3, 3, 4, 4])
    assert answer.admit(cache, [9, 9, 9]) is not None
    assert len(cache.blocks) == 4, "two blocks are free, and two are needed"
    assert answer.admit(cache, [8, 8, 8]) is not None
    assert sorted(cache.blocks) == sorted(table[:2]), "none is free, and two are needed"


@pytest.mark.parametrize("hit", [[], [1, 1], [1, 1, 2, 2]])
def test_task_6_all_or_nothing(hit: list[int]) -> None:
    cache, pool = new_cache(6)
    pool.allocate(2)
    file_idle(cache, pool, [1, 1, 2, 2, 3, 3, 4, 4])
    with changes_nothing(cache, pool, "an admission for which there is no room"):
        admitted = answer.admit(cache, [*hit, *[9] * (9 - len(hit))])
    assert admitted is None, "9 tokens need 5 blocks, and all but 4 are held by others"


def test_task_6_room_for_the_original_and_its_copy_is_not_needed() -> None:
    cache, pool = new_cache(3)
    table = file_idle(cache, pool, [1, 1, 2, 2, 3, 3])
    admitted = answer.admit(cache, [1, 1, 2, 2, 3, 3])
    assert admitted is not None, (
        "the pool has 3 blocks, the sequence needs 3, there is no other request, and it is refused: it would wait for ever."
        " Where the copy finds no room alongside the original, do without the original"
    )
    assert sorted(admitted.table) == sorted(table)
    assert (admitted.table[:2], admitted.cached, admitted.copy) == (table[:2], 4, None), "the last block is computed again"
    assert sorted(cache.blocks) == sorted(table[:2]), "and is no longer filed"


def test_task_6_others_hold_the_original_and_there_is_no_room() -> None:
    cache, pool = new_cache(2)
    file_new(cache, pool, [1, 1, 2, 2])
    with changes_nothing(cache, pool, "an admission for which there is no room"):
        assert answer.admit(cache, [1, 1, 2, 2]) is None, "the only two blocks are in use, and a third is needed"


@settings(max_examples=50)
@given(
    st.integers(1, 3),
    st.integers(3, 10),
    st.lists(st.tuples(st.integers(0, 9), st.lists(st.integers(0, 1), min_size=1, max_size=9)), min_size=3),
)
def test_task_6_any_traffic(block_size: int, num_blocks: int, events: list[tuple[int, list[int]]]) -> None:
    cache, pool = new_cache(num_blocks, block_size)
    running: list[tuple[list[int], list[int]]] = []
    for choice, tokens in events:
        match, room = cache.match(tokens), pool.num_free + cache.evictable
        admitted = answer.admit(cache, tokens)
        needed = -(-len(tokens) // block_size)
        if admitted is None:
            shared = sum(pool.references(block) > 1 for block in match.blocks[: match.tokens // block_size])
            assert needed - shared > room, f"{needed} blocks are needed, {shared} are shared, and there was room for {room}"
        else:
            at = f"{tokens} in blocks of {block_size}: {admitted}"
            assert len(admitted.table) == needed == len(set(admitted.table)), f"{at}: {needed} blocks of its own or shared"
            whole = admitted.cached // block_size
            assert admitted.table[:whole] == match.blocks[:whole], f"{at}: the match began with {match.blocks}"
            assert not any(cache.holds(block) for block in admitted.table[whole:]), f"{at}: written to, and filed"
            assert admitted.cached in (match.tokens, match.tokens // block_size * block_size), f"{at}: the match was {match}"
            assert (admitted.copy is not None) == (admitted.cached % block_size > 0), (
                f"{at}: a block of which the beginning is used is copied, and no other"
            )
            running.append((tokens, admitted.table))
        if running and (admitted is None or choice > 3):
            tokens, table = running.pop(choice % len(running))
            full = len(tokens) // block_size
            duplicates = cache.insert(tokens[: full * block_size], table[:full])
            cache.release([duplicates.get(block, block) for block in table])
        held = [*cache.blocks, *(block for _, table in running for block in table)]
        assert [held.count(block) for block in range(num_blocks)] == pool.counts, "references: tables and trie, nothing else"
        cache.check_integrity()


# With a model


def model_and_oracle(architecture: str) -> tuple[Any, Any]:
    config = tiny_config(architecture)
    weights = random_weights(config, seed=1)
    return answer.Model(config, weights), mlx_lm_model(config, weights)


def random_tokens(count: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(0, 256, count).tolist()


def serve(paged: Paged, cache: Any, name: str, tokens: list[int]) -> tuple[Any, mx.array]:
    """Admit a sequence, copy what is to be copied, compute what is not cached; its logits."""
    admitted = answer.admit(cache, tokens)
    assert admitted is not None
    if admitted.copy:
        for layer in paged.caches:
            layer.copy_block(*admitted.copy)
    paged.add(name, tokens, admitted.table, done=admitted.cached)
    return admitted, paged.step({name: len(tokens) - admitted.cached})[name]


def file_computed(cache: Any, pool: Pool, tokens: list[int], admitted: Any) -> None:
    full = len(tokens) // pool.block_size
    assert cache.insert(tokens[: full * pool.block_size], admitted.table[:full]) == {}, "these tokens have not been filed"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_6_logits_after_a_hit_are_those_of_a_cold_run(architecture: str) -> None:
    cache, pool = new_cache(16, 4)
    admitted = answer.admit(cache, first := random_tokens(10, seed=1))
    assert admitted is not None
    model, oracle = model_and_oracle(architecture)
    paged = Paged(model, 16, 4)
    paged.add("first", first, admitted.table)
    paged.step({"first": 10})
    file_computed(cache, pool, first, admitted)
    second = [*first[:9], *random_tokens(5, seed=2)]
    hit, logits = serve(paged, cache, "second", second)
    assert hit.cached == 8, "two full blocks of 4 are shared"
    assert_close(logits, oracle(mx.array([second]))[0, -1], "the second sequence attends over blocks of the first", LOGITS)


def test_task_6_a_copy_leaves_the_original_to_those_who_read_it() -> None:
    cache, pool = new_cache(16, 4)
    admitted = answer.admit(cache, first := random_tokens(8, seed=1))
    assert admitted is not None
    model, oracle = model_and_oracle("llama")
    paged = Paged(model, 16, 4)
    paged.add("first", [*first, 7], [*admitted.table, *(pool.allocate(1) or [])])
    paged.step({"first": 8})
    file_computed(cache, pool, first, admitted)
    hit, logits = serve(paged, cache, "again", first)
    assert hit.cached == 7, "all 8 tokens are cached, and the last one is computed"
    want = oracle(mx.array([[*first, 7]]))[0]
    assert_close(logits, want[7], "the same prompt once more, of which 7 tokens are cached", LOGITS)
    assert_close(
        paged.step({"first": 1})["first"], want[8], "the first sequence goes on, over the block that was copied", LOGITS
    )


def test_task_6_an_evicted_block_is_computed_again() -> None:
    cache, pool = new_cache(3, 4)
    admitted = answer.admit(cache, first := random_tokens(8, seed=1))
    assert admitted is not None
    model, oracle = model_and_oracle("llama")
    paged = Paged(model, 3, 4)
    paged.add("first", first, admitted.table)
    paged.step({"first": 8})
    file_computed(cache, pool, first, admitted)
    cache.release(admitted.table)
    other, _ = serve(paged, cache, "other", random_tokens(6, seed=2))
    cache.release(other.table)
    hit, logits = serve(paged, cache, "again", [*first, 5, 6])
    assert hit.cached == 4, "one block of the first sequence was left"
    assert_close(logits, oracle(mx.array([[*first, 5, 6]]))[0, -1], "the evicted block holds other tokens by now", LOGITS)


def test_task_6_with_the_block_pool_of_day_1() -> None:
    pool = answer.BlockPool(4, 2)
    cache = answer.PrefixCache(pool)
    admitted = answer.admit(cache, [1, 1, 2, 2, 3])
    assert admitted is not None
    cache.insert([1, 1, 2, 2], admitted.table[:2])
    cache.release(admitted.table)
    pool.check_integrity([cache.blocks])
    again = answer.admit(cache, [1, 1, 2, 2])
    assert again is not None
    assert again.cached == 3, "4 tokens are filed, and the last of the prompt is always computed: its logits are wanted"
    pool.check_integrity([cache.blocks, again.table])
    cache.release(again.table)
    with refuses(ValueError, "the table was given back already", "block "):
        cache.release(again.table)
    cache.clear()
    pool.check_integrity([])
