"""Week 3 Day 3, task 7: how many prompt tokens a prefix cache saves, against a count that knows every prefix there ever was."""

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from support import refuses


def ever_seen(prompts: Sequence[Sequence[int]], block_size: int) -> int:
    """Tokens that need not be computed if no block is ever forgotten: from a set of prefixes."""
    seen: set[tuple[int, ...]] = set()
    saved = 0
    for tokens in prompts:
        prefixes = [tuple(tokens[:end]) for end in range(block_size, len(tokens) + 1, block_size)]
        hit = next((i for i, prefix in enumerate(prefixes) if prefix not in seen), len(prefixes))
        saved += max(min(hit * block_size, len(tokens) - 1), 0)
        seen.update(prefixes)
    return saved


def shared_prefix(requests: int = 64, system: int = 400) -> list[list[int]]:
    random = np.random.default_rng(0)
    common = random.integers(0, 50_000, system).tolist()
    return [[*common, *random.integers(0, 50_000, random.integers(20, 61)).tolist()] for _ in range(requests)]


def test_task_7_the_first_prompt_saves_nothing() -> None:
    savings = answer.measure_savings([[1, 2, 3, 4, 5]], 8, 2)
    assert savings == answer.Savings(tokens=5, cached=0), "nobody came before the first prompt"
    assert (savings.computed, savings.hit_rate) == (5, 0.0)


def test_task_7_the_same_prompt_again() -> None:
    savings = answer.measure_savings([[1, 2, 3, 4, 5]] * 4, 8, 2)
    assert savings == answer.Savings(tokens=20, cached=12), "4 of 5 tokens are in full blocks, for three of four prompts"
    assert savings.hit_rate == 0.6
    full = answer.measure_savings([[1, 2, 3, 4]] * 4, 8, 2)
    assert full == answer.Savings(tokens=16, cached=9), "of a prompt of two full blocks the last token is computed each time"


@pytest.mark.parametrize("system", [400, 410])
@pytest.mark.parametrize("num_blocks", [30, 64])
def test_task_7_a_system_prompt_is_computed_once(num_blocks: int, system: int) -> None:
    prompts = shared_prefix(system=system)
    savings = answer.measure_savings(prompts, num_blocks, 16)
    assert savings.cached == 63 * 400, (
        f"of {system} tokens 400 fill 25 blocks of 16, and all but the first of 64 requests find them, also in a pool of "
        f"{num_blocks} blocks: those of the system prompt are the last to go"
    )
    assert savings.tokens == sum(map(len, prompts))


def test_task_7_the_longest_prompt_says_how_small_a_pool_may_be() -> None:
    prompts = [*shared_prefix(), shared_prefix()[0][:400] + [7] * 60]
    assert answer.measure_savings(prompts, 29, 16).cached == 64 * 400, (
        "460 tokens take 29 blocks; the first 25 are always found"
    )


def test_task_7_what_does_not_fill_a_block_is_not_shared() -> None:
    prompts = [[*range(100, 107), last] for last in (1, 2, 3)]
    assert answer.measure_savings(prompts, 16, 4).cached == 2 * 4, "of 7 common tokens 4 fill a block"


@pytest.mark.parametrize(("num_blocks", "cached"), [(3, 4), (2, 0)])
def test_task_7_what_was_evicted_is_computed_again(num_blocks: int, cached: int) -> None:
    prompts = [[1, 1, 2], [3, 3, 4]] * 2
    got = answer.measure_savings(prompts, num_blocks, 2).cached
    assert got == cached, (
        f"two prompts in turn, each of one full block and one token, in {num_blocks} blocks: with three both full blocks stay, "
        f"and the third and fourth prompt find 2 tokens each; with two, each evicts the other. {got} found"
    )


def test_task_7_one_block_over_the_minimum() -> None:
    assert answer.measure_savings([[1, 1, 2, 2]] * 3, 2, 2).cached == 4, (
        "the pool has no room for the original and its copy: the first block is found, the second is computed again"
    )
    assert answer.measure_savings([[1, 1, 2, 2]] * 3, 3, 2).cached == 6, "with a third block there is room for a copy"


@settings(max_examples=50)
@given(st.integers(1, 4), st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), max_size=12))
def test_task_7_a_pool_that_holds_everything_saves_what_can_be_saved(block_size: int, prompts: list[list[int]]) -> None:
    savings = answer.measure_savings(prompts, 200, block_size)
    want = ever_seen(prompts, block_size)
    assert savings == answer.Savings(sum(map(len, prompts)), want), f"{prompts} in blocks of {block_size}: {want} can be saved"


@settings(max_examples=50)
@given(st.integers(1, 4), st.integers(0, 20), st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=10), max_size=12))
def test_task_7_a_small_pool_saves_no_more(block_size: int, extra: int, prompts: list[list[int]]) -> None:
    enough = max((-(-len(tokens) // block_size) for tokens in prompts), default=1)
    savings = answer.measure_savings(prompts, enough + extra, block_size)
    most = ever_seen(prompts, block_size)
    assert 0 <= savings.cached <= most, f"{prompts} in {enough + extra} blocks of {block_size}: {savings}, at most {most}"


def test_task_7_a_prompt_that_never_fits_is_refused() -> None:
    with refuses(ValueError, "a prompt of 5 blocks in a pool of 4"):
        answer.measure_savings([[1, 2], [1] * 9], 4, 2)


def test_task_7_without_prompts_nothing_is_saved() -> None:
    savings = answer.measure_savings([], 4, 2)
    assert (savings.tokens, savings.cached, savings.computed, savings.hit_rate) == (0, 0, 0, 0.0), (
        "a share of nothing is 0, not a division by zero"
    )


def test_task_7_prompts_may_come_one_at_a_time() -> None:
    assert answer.measure_savings(iter([[1, 2, 3], [1, 2, 3]]), 4, 2).cached == 2, "prompts may be a generator"
