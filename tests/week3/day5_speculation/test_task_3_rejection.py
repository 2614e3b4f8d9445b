"""Week 3 Day 5, task 3: drafts with probabilities, kept so that the answer has the target's distribution.

What comes out is random, so it is counted over many keys and compared by χ² = Σ (counted − expected)² / expected. With d
degrees of freedom (one less than there are outcomes), χ² is above d + 2 √(14 d) + 28 at most once in a million right answers
(Laurent and Massart 2000, lemma 1: e⁻¹⁴). The keys are the same in every run, so a right answer passes or fails for good.
"""

import functools
from collections import Counter
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from support import refuses

KEYS = 500

TARGET = [0.4, 0.3, 0.2, 0.1, 0.0]
DRAFT = [0.1, 0.2, 0.3, 0.0, 0.4]
"""Token 3 is never drafted, and token 4 never wanted."""


def one_hot(token: int, size: int = 5) -> list[float]:
    return [float(place == token) for place in range(size)]


def sample(target: Sequence[Sequence[float]], draft: Sequence[Sequence[float]], tokens: Sequence[int], key: int) -> list[int]:
    rows = mx.array(draft) if draft else mx.zeros((0, len(target[0])))
    kept: list[int] = answer.rejection_sample(mx.array(target), rows, tokens, mx.random.key(key))
    return kept


def sample_often(
    target: Sequence[Sequence[float]], draft: Sequence[Sequence[float]], keys: int = KEYS, seed: int = 0
) -> list[tuple[list[int], list[int]]]:
    """For each key: tokens drawn from the draft, and what was kept."""
    random = np.random.default_rng(seed)
    drawn = [[int(random.choice(len(row), p=np.array(row) / np.sum(row))) for row in draft] for _ in range(keys)]
    return [(tokens, sample(target, draft, tokens, key)) for key, tokens in enumerate(drawn)]


@functools.cache
def usual_results() -> list[tuple[list[int], list[int]]]:
    """The results of one draft, with the distributions above."""
    return sample_often([TARGET, TARGET], [DRAFT])


def assert_distributed(outcomes: Sequence[int], probabilities: Sequence[float], what: str) -> None:
    """χ² of what came out is not too large; see the module."""
    __tracebackhide__ = True
    counted, total = Counter(outcomes), len(outcomes)
    possible = {token: p for token, p in enumerate(probabilities) if p > 0}
    never = sorted(set(counted) - set(possible))
    assert not never, f"{what}: {never[0]} has probability 0, and came {counted[never[0]]} of {total} times"
    chi2 = sum((counted[token] - total * p) ** 2 / (total * p) for token, p in possible.items())
    degrees = len(possible) - 1
    bound = degrees + 2 * (14 * degrees) ** 0.5 + 28
    shares = [round(counted[token] / total, 2) for token in range(len(probabilities))]
    wanted = [round(p, 2) for p in probabilities]
    assert chi2 <= bound, f"{what}: shares {shares} in {total} draws, expected {wanted} (χ² is {chi2:.0f}, at most {bound:.0f})"


# The first token


def test_task_3_the_first_token_is_distributed_as_the_target() -> None:
    outcomes = [kept[0] for _, kept in usual_results()]
    assert_distributed(outcomes, TARGET, "the first token, drafted from another distribution")


@pytest.mark.parametrize(
    ("target", "draft"),
    [
        ([0.5, 0.5, 0.0], [0.0, 0.5, 0.5]),
        ([0.9, 0.1], [0.1, 0.9]),
        ([0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]),
        ([0.0, 1.0, 0.0], [0.4, 0.3, 0.3]),
        ([0.7, 0.2, 0.1], [0.7, 0.1, 0.2]),
    ],
)
def test_task_3_for_any_two_distributions(target: list[float], draft: list[float]) -> None:
    outcomes = [kept[0] for _, kept in sample_often([target, target], [draft], keys=300, seed=1)]
    assert_distributed(outcomes, target, f"the first token, drafted from {draft}")


def test_task_3_as_many_are_kept_as_can_be() -> None:
    """A draw from the target alone would be distributed rightly, too, and no draft would ever be kept but by chance."""
    kept = [int(len(tokens) > 1) for _, tokens in usual_results()]
    overlap = sum(map(min, TARGET, DRAFT))
    assert_distributed(kept, [1 - overlap, overlap], f"a draft is kept with probability Σ min(target, draft) = {overlap:.1f}")


def test_task_3_a_draft_that_the_target_wants_more_is_always_kept() -> None:
    for tokens, kept in usual_results():
        if tokens[0] in (0, 1):
            assert kept[0] == tokens[0], f"target / draft of token {tokens[0]} is above 1: it is kept, but {kept} came"
            assert len(kept) == 2, f"token {tokens[0]} was kept, so one more is drawn: {kept}"


def test_task_3_what_replaces_a_draft_is_what_the_target_has_more() -> None:
    replaced = [kept[0] for _, kept in usual_results() if len(kept) == 1]
    more = np.maximum(np.array(TARGET) - DRAFT, 0)
    assert_distributed(replaced, list(more / more.sum()), "in place of a draft that is not kept: max(0, target − draft)")


# Several places


def test_task_3_each_place_has_its_own_rows() -> None:
    target = [TARGET, [0.1, 0.1, 0.1, 0.1, 0.6], [0.0, 0.5, 0.0, 0.5, 0.0]]
    draft = [[0.3, 0.3, 0.2, 0.1, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]]
    results = sample_often(target, draft, keys=500, seed=3)
    for place in range(3):
        outcomes = [kept[place] for _, kept in results if len(kept) > place]
        assert_distributed(outcomes, target[place], f"token {place}, where those before it were kept")


def test_task_3_nothing_is_kept_behind_a_draft_that_was_not() -> None:
    target, draft = [one_hot(0), one_hot(1), one_hot(2)], [one_hot(3), one_hot(1)]
    for key in range(20):
        kept = sample(target, draft, [3, 1], key)
        assert kept == [0], f"the first draft is impossible in the target; the second, though right, comes after it: {kept}"


def test_task_3_places_are_independent() -> None:
    """A coin that is used for two places keeps both drafts or none."""
    target, draft = [[0.5, 0.5, 0.0, 0.0]] * 3, [[0.0, 0.0, 0.5, 0.5]] * 2
    target[:2] = [[0.25, 0.25, 0.25, 0.25]] * 2  # of what is drafted, half is kept
    lengths = [len(kept) - 1 for _, kept in sample_often(target, draft, seed=4)]
    assert_distributed(lengths, [0.5, 0.25, 0.25], "this many drafts are kept, each with probability 1/2, independently")


def test_task_3_the_coin_and_the_token_that_replaces_are_independent() -> None:
    """One key for both would let what is drawn depend on how the coin fell."""
    size = 8
    target, draft = [[1 / size] * size] * 2, [one_hot(0, size)]
    replaced = [kept[0] for _, kept in sample_often(target, draft, keys=300, seed=5) if len(kept) == 1]
    assert_distributed(replaced, [0.0, *[1 / 7] * 7], "in place of a draft that is not kept, seven are equally likely")
    after = [kept[1] for _, kept in sample_often(target, draft, keys=3000 // size, seed=6) if len(kept) == 2]
    assert len(set(after)) > 3, f"after a draft that is kept, eight are equally likely: {after}"


def test_task_3_the_token_behind_all_drafts_comes_from_the_last_row() -> None:
    rows = [TARGET, DRAFT]
    outcomes = [kept[2] for _, kept in sample_often([*rows, one_hot(3)], rows, keys=60)]
    assert set(outcomes) == {3}, f"both drafts are kept, and the target's last row is sure of 3: {sorted(set(outcomes))}"
    outcomes = [kept[2] for _, kept in sample_often([*rows, TARGET], rows, seed=7)]
    assert_distributed(outcomes, TARGET, "the token after all drafts")


def test_task_3_without_drafts_the_target_is_drawn_from() -> None:
    kept = [sample([TARGET], [], [], key) for key in range(300)]
    assert all(len(tokens) == 1 for tokens in kept), "no drafts: one token"
    assert_distributed([tokens[0] for tokens in kept], TARGET, "no drafts: the token is drawn from the only row")


# The edges


def test_task_3_where_both_are_equal_everything_is_kept() -> None:
    rows = [TARGET, DRAFT, [0.2] * 5]
    for tokens, kept in sample_often([*rows, TARGET], rows, keys=200):
        assert kept[:3] == tokens, f"target and draft are equal, so {tokens} are kept, but {kept} came"
        assert len(kept) == 4, f"and one more is drawn: {kept}"


def test_task_3_an_impossible_draft_is_never_kept() -> None:
    target, draft = [[0.5, 0.5, 0.0, 0.0]] * 2, [[0.0, 0.0, 0.5, 0.5]]
    results = sample_often(target, draft, keys=300)
    assert all(len(kept) == 1 for _, kept in results), "the target can draw none of the drafts"
    assert_distributed([kept[0] for _, kept in results], target[0], "nothing in common: the target itself")


def test_task_3_rounding_may_leave_nothing_to_replace_with() -> None:
    """Rows of rounded probabilities don't add up to 1: here the target has less of the only token there is."""
    target, draft = [[0.0, 0.5, 0.0], one_hot(1, 3)], [one_hot(1, 3)]
    for key in range(40):
        kept = sample(target, draft, [1], key)
        assert set(kept) == {1}, f"the target knows one token, which is also where nothing is left of target − draft: {kept}"


def test_task_3_a_draft_with_probability_0_breaks_nothing() -> None:
    """It can't have been drawn, but rounding may have made a 0 of a small number."""
    for key in range(20):
        kept = sample([TARGET, one_hot(2)], [DRAFT], [3], key)
        assert kept == [3, 2], f"target / draft of token 3 is beyond all bounds, so it is kept: {kept}"
        kept = sample([one_hot(0), one_hot(2)], [one_hot(0)], [4], key)
        assert kept == [0], f"neither can draw token 4, nothing is left of target − draft, and the target knows 0 alone: {kept}"


@pytest.mark.parametrize("dtype", [mx.float16, mx.bfloat16])
def test_task_3_half_precision_is_good_enough(dtype: mx.Dtype) -> None:
    target, draft = mx.array([TARGET, TARGET]).astype(dtype), mx.array([DRAFT]).astype(dtype)
    random = np.random.default_rng(8)
    drawn = [int(random.choice(5, p=DRAFT)) for _ in range(300)]
    outcomes = [answer.rejection_sample(target, draft, [token], mx.random.key(key))[0] for key, token in enumerate(drawn)]
    assert_distributed(outcomes, TARGET, f"the first token, with probabilities in {dtype}")


def test_task_3_a_key_decides_what_is_kept() -> None:
    def kept(key: int) -> list[list[int]]:
        return [sample([TARGET, TARGET, TARGET], [DRAFT, DRAFT], [first, 2], key + i) for i, first in enumerate([2, 4] * 5)]

    assert kept(100) == kept(100), "the same keys: the same tokens"
    assert kept(100) != kept(200), "other keys: other tokens"
    mx.random.seed(0)
    before = kept(300)
    mx.random.seed(1)
    assert kept(300) == before, "only the key decides, and no global random state"


def test_task_3_tokens_are_ints_and_the_drafts_are_left_alone() -> None:
    tokens = [0, 1]
    kept = sample([TARGET] * 3, [TARGET] * 2, tokens, 0)
    assert all(type(token) is int for token in kept), f"a list of ints, not {[type(token).__name__ for token in kept]}"
    assert tokens == [0, 1], "the drafts are the caller's"


@pytest.mark.parametrize(("targets", "drafts", "count"), [(1, 1, 1), (3, 1, 1), (2, 2, 1), (2, 1, 2), (2, 1, 0)])
def test_task_3_rows_that_do_not_fit_are_refused(targets: int, drafts: int, count: int) -> None:
    target, draft = mx.array([TARGET] * targets), mx.array([DRAFT] * drafts)
    what: Any = f"{targets} rows of the target, {drafts} of the draft, {count} tokens: K + 1, K and K are needed"
    with refuses(ValueError, what):
        answer.rejection_sample(target, draft, [0] * count, mx.random.key(0))
