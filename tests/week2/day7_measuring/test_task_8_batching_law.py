"""Task 8: the law of batching. How long the longest of B answers is, and what that costs static batches."""

import math
from itertools import product
from random import Random
from statistics import fmean, stdev

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from support import refuses

LENGTHS = st.lists(st.integers(1, 300), min_size=1, max_size=40)
BATCH_SIZES = st.integers(1, 12)


def log_normal(count: int, seed: int = 0) -> list[int]:
    """Lengths as chat servers see them: most are short, a few are long."""
    random = np.random.Generator(np.random.PCG64(seed))
    return np.clip(np.rint(random.lognormal(np.log(32), 0.8, size=count)), 8, 256).astype(int).tolist()


# How long the longest is


@pytest.mark.parametrize(
    ("batch_size", "want", "why"),
    [
        (1, 24 / 3, "one answer: the mean"),
        (2, (1 * 4 + 3 * 8 + 5 * 12) / 9, "of 9 pairs, in 1 the longest has 4 tokens, in 3 it has 8, in 5 it has 12"),
        (3, (1 * 4 + 7 * 8 + 19 * 12) / 27, "of 27 triples, in 1 the longest has 4 tokens, in 7 it has 8, in 19 it has 12"),
    ],
)
def test_task_8_the_longest_of_three_lengths_by_hand(batch_size: int, want: float, why: str) -> None:
    got = answer.expected_longest((4, 12, 8), batch_size)
    assert got == pytest.approx(want, rel=1e-12), (
        f"of {batch_size} answers drawn from 4, 12 and 8, the longest has {want:.4f} tokens in the mean ({why}), not {got}"
    )


@pytest.mark.parametrize("lengths", [[1, 2, 3, 4, 5], [7, 7, 7, 2], [3, 1, 3, 1], [100, 1, 1], [5]], ids=str)
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5])
def test_task_8_the_longest_is_the_mean_over_all_batches_there_are(lengths: list[int], batch_size: int) -> None:
    """Counted out: every batch, drawn with replacement, is as likely as every other."""
    want = fmean(max(batch) for batch in product(lengths, repeat=batch_size))
    got = answer.expected_longest(lengths, batch_size)
    assert got == pytest.approx(want, rel=1e-12), (
        f"over all {len(lengths)}^{batch_size} batches of {lengths} the longest has {want:.4f} tokens in the mean, not {got}:"
        " a length that is there twice counts twice, and an answer that was drawn can be drawn again"
    )


@pytest.mark.parametrize("batch_size", [2, 8, 32])
def test_task_8_the_longest_agrees_with_drawing(batch_size: int) -> None:
    lengths = log_normal(500)
    random = np.random.Generator(np.random.PCG64(batch_size))
    drawn = random.choice(lengths, size=(4000, batch_size)).max(axis=1).tolist()
    error = stdev(drawn) / math.sqrt(len(drawn))
    got = answer.expected_longest(lengths, batch_size)
    assert abs(got - fmean(drawn)) < 5 * error, (
        f"4000 batches of {batch_size} that were drawn have a longest answer of {fmean(drawn):.2f} ± {error:.2f} tokens, and"
        f" expected_longest says {got:.2f}"
    )


def test_task_8_the_longest_of_one_is_the_mean_and_of_many_the_maximum() -> None:
    lengths = log_normal(200)
    assert answer.expected_longest(lengths, 1) == pytest.approx(fmean(lengths), rel=1e-12), (
        "a batch of one waits for no other: its longest answer is its only one"
    )
    assert answer.expected_longest(lengths, 10**6) == pytest.approx(max(lengths), rel=1e-9), (
        "in a batch of a million almost surely one has the longest of 200 lengths"
    )


@pytest.mark.parametrize("count", [1000, 6000])
@pytest.mark.parametrize("batch_size", [1000, 4096, 20_000])
def test_task_8_the_longest_of_thousands(batch_size: int, count: int) -> None:
    """With one long answer in n, a batch lacks it with probability (1 − 1 / n)^B; no power may overflow or be lost."""
    lengths = [1000] + [10] * (count - 1)
    want = 10 + 990 * -math.expm1(batch_size * math.log1p(-1 / count))
    got = answer.expected_longest(lengths, batch_size)
    assert got == pytest.approx(want, rel=1e-9), (
        f"{count - 1} answers of 10 tokens and one of 1000, in batches of {batch_size}: the longest has {want:.6f} tokens in"
        f" the mean, not {got}. Are shares raised to the power of B, rather than counts, which overflow?"
    )


def test_task_8_a_long_list_and_a_large_batch_take_no_time() -> None:
    """Summing over each of B answers, or drawing them, would take a thousand times as long."""
    lengths = log_normal(20_000)
    longest = answer.expected_longest(lengths, 5000)
    assert max(lengths) - 1 < longest <= max(lengths), (
        f"of 5000 answers drawn from 20,000, of which {lengths.count(max(lengths))} have {max(lengths)} tokens, the longest has"
        f" almost surely that many, not {longest}"
    )


@given(LENGTHS, BATCH_SIZES)
def test_task_8_what_decides_is_the_share_of_each_length(lengths: list[int], batch_size: int) -> None:
    want = answer.expected_longest(lengths, batch_size)
    shuffled = Random(0).sample(lengths, len(lengths))
    assert answer.expected_longest(shuffled, batch_size) == pytest.approx(want, rel=1e-9), "the order does not matter"
    assert answer.expected_longest(3 * lengths, batch_size) == pytest.approx(want, rel=1e-9), (
        "three times the list has the same share of each length, and each answer is drawn from all of them"
    )


@given(LENGTHS, BATCH_SIZES)
def test_task_8_a_larger_batch_waits_longer(lengths: list[int], batch_size: int) -> None:
    smaller, larger = (answer.expected_longest(lengths, size) for size in (batch_size, batch_size + 1))
    assert smaller <= larger + 1e-9, f"one more answer cannot make the longest of {batch_size} shorter"
    assert fmean(lengths) - 1e-9 <= smaller <= max(lengths) + 1e-9, "the longest is from the mean to the longest of all"


def test_task_8_lengths_stay_as_they_were() -> None:
    lengths = [4, 12, 8]
    answer.expected_longest(lengths, 2)
    answer.predicted_ratio(lengths, 2)
    answer.static_steps(lengths, 2)
    answer.continuous_steps(lengths, 2)
    assert lengths == [4, 12, 8], "the list is the caller's, and its order is that of the requests: sort a copy"


# The law


@pytest.mark.parametrize(("batch_size", "want"), [(1, 1), (2, 88 / 72), (3, 4 / 3)])
def test_task_8_the_law_by_hand(batch_size: int, want: float) -> None:
    got = answer.predicted_ratio((4, 12, 8), batch_size)
    assert got == pytest.approx(want, rel=1e-12), (
        f"4, 12 and 8 tokens: the longest of {batch_size} over the mean, which is 8, makes {want:.4f}, not {got}"
    )


@pytest.mark.parametrize("batch_size", [1, 2, 8, 32, 5000])
def test_task_8_the_law_of_equal_lengths_is_1(batch_size: int) -> None:
    got = answer.predicted_ratio([37] * 50, batch_size)
    assert got == pytest.approx(1, rel=1e-12), (
        f"where all answers are equally long none waits for another, so there is nothing to gain: the ratio is 1, not {got}"
    )


@given(LENGTHS, BATCH_SIZES)
def test_task_8_the_law_is_in_no_unit(lengths: list[int], batch_size: int) -> None:
    once, tenfold = (answer.predicted_ratio([times * n for n in lengths], batch_size) for times in (1, 10))
    assert once == pytest.approx(tenfold, rel=1e-9), "answers that are all ten times as long change both steps alike"
    assert 1 - 1e-9 <= once <= batch_size + 1e-9, (
        f"the longest of {batch_size} is at least the mean, and at most the sum of all {batch_size}: the ratio was {once}"
    )


# The steps, counted


@pytest.mark.parametrize(
    ("lengths", "batch_size", "want", "why"),
    [
        ([4, 12, 8], 3, 12, "one group, as long as its longest"),
        ([12, 2, 3, 4, 9, 1, 2], 3, 23, "groups of 12, 9 and, with the one that is left, 2 steps"),
        ([5, 1, 1, 5], 2, 10, "groups in the order of the list: none is put next to one of like length"),
        ([3, 9, 4], 1, 16, "a group each"),
        ([3, 9, 4], 8, 9, "a batch that is larger than the list is one group"),
        ([6, 6, 2, 2], 2, 8, "groups of 6 and 2"),
        ([], 4, 0, "nothing to do"),
    ],
)
def test_task_8_static_steps_by_hand(lengths: list[int], batch_size: int, want: int, why: str) -> None:
    got = answer.static_steps(lengths, batch_size)
    assert got == want, f"{lengths} in groups of {batch_size} take {want} steps ({why}), not {got}"


@pytest.mark.parametrize(
    ("lengths", "batch_size", "want", "why"),
    [
        ([4, 12, 8], 3, 12, "all begin at once, and the longest is the last to end"),
        ([4, 12, 8, 8, 4], 3, 12, "the fourth begins when the first ends, at 4, and the fifth at 8: no slot is ever empty"),
        ([2, 2, 10], 2, 12, "the third begins at 2 and ends at 12: the order is that of the list, not the longest first"),
        ([10, 2, 2], 2, 10, "the third begins at 2 in the slot of the second"),
        ([5, 1, 1, 5], 2, 7, "the last begins at 2 and ends at 7"),
        ([3, 3, 1, 4, 2], 2, 7, "the third ends at 4, the fourth at 7, and the fifth, which begins at 4, at 6"),
        ([3, 9, 4], 1, 16, "one slot: one after another"),
        ([3, 9, 4], 8, 9, "a slot for each"),
        ([], 4, 0, "nothing to do"),
    ],
)
def test_task_8_continuous_steps_by_hand(lengths: list[int], batch_size: int, want: int, why: str) -> None:
    got = answer.continuous_steps(lengths, batch_size)
    assert got == want, f"{lengths} in {batch_size} slots take {want} steps ({why}), not {got}"


def test_task_8_the_worked_example_wastes_a_third_in_static_mode() -> None:
    lengths = [4, 12, 8]
    offered = 3 * answer.static_steps(lengths, 3)
    assert offered == 36, f"three slots for 12 steps are 36 places for the 24 tokens, 67 % in use; static_steps makes {offered}"


@given(LENGTHS, BATCH_SIZES)
def test_task_8_continuous_is_never_slower_and_never_faster_than_full_slots(lengths: list[int], batch_size: int) -> None:
    static, continuous = answer.static_steps(lengths, batch_size), answer.continuous_steps(lengths, batch_size)
    assert continuous <= static, (
        f"no answer begins later than in its group, so that {continuous} steps cannot be more than the {static} of groups"
    )
    least = max(max(lengths), -(-sum(lengths) // batch_size))
    assert continuous >= least, (
        f"{sum(lengths)} tokens in {batch_size} slots, the longest answer {max(lengths)}, take at least {least} steps, not"
        f" {continuous}"
    )


@pytest.mark.parametrize("batch_size", [2, 8, 32])
def test_task_8_the_law_agrees_with_the_steps_counted(batch_size: int) -> None:
    """A long list, so that the end, when slots are empty, weighs little, and the mean of the groups is close to its limit."""
    lengths = log_normal(16_000, seed=1)
    counted = answer.static_steps(lengths, batch_size) / answer.continuous_steps(lengths, batch_size)
    law = answer.predicted_ratio(lengths, batch_size)
    assert counted == pytest.approx(law, rel=0.05), (
        f"in batches of {batch_size}, static batches take {counted:.3f} times the steps of continuous ones over 16,000 answers,"
        f" and the law says {law:.3f}"
    )


# What is refused


@pytest.mark.parametrize("name", ["expected_longest", "predicted_ratio", "static_steps", "continuous_steps"])
@pytest.mark.parametrize("batch_size", [0, -3])
def test_task_8_a_batch_without_slots_is_refused(name: str, batch_size: int) -> None:
    with refuses(ValueError, f"{name} for a batch_size of {batch_size}", str(batch_size)):
        getattr(answer, name)([4, 12, 8], batch_size)


@pytest.mark.parametrize("name", ["expected_longest", "predicted_ratio"])
def test_task_8_no_lengths_are_refused(name: str) -> None:
    with refuses(ValueError, f"{name} of an empty list, of which there is no mean"):
        getattr(answer, name)([], 2)
