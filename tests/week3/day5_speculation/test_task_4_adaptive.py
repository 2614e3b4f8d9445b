"""Week 3 Day 5, task 4: how many drafts are worth their place in a step."""

import itertools
from typing import Any

import pytest

from answer import answer
from support import refuses

LONG = 200
"""So many updates that nothing before them counts any more."""


def draft_of(proposed: int, accepted: int, **kwargs: Any) -> Any:
    """A draft length for a request of which `accepted` of `proposed` drafts have long been right in every step."""
    adaptive = answer.AdaptiveDraft(**kwargs)
    for _ in range(LONG):
        adaptive.update(proposed, accepted)
    return adaptive


def assert_length(adaptive: Any, rows: int, expected: int, look_at: str) -> None:
    __tracebackhide__ = True
    got = adaptive.length(rows)
    assert got == expected, f"{look_at}: with {rows} rows, {got} tokens are to be drafted, expected {expected}"


def play(adaptive: Any, rows: int, steps: int, right: bool) -> list[int]:
    """The lengths of this many steps in which all drafts are right, or none."""
    lengths = []
    for _ in range(steps):
        length = adaptive.length(rows)
        lengths.append(length)
        adaptive.update(length, length if right else 0)
    return lengths


def test_task_4_a_request_begins_with_some() -> None:
    for rows in (1, 8):
        length = answer.AdaptiveDraft().length(rows)
        assert 1 <= length <= 8, f"{rows} rows: begin as if drafts had been right, within `most`: {length}"


@pytest.mark.parametrize("most", [1, 3, 8, 20])
def test_task_4_drafts_that_are_always_right_are_as_long_as_they_may_be(most: int) -> None:
    assert_length(draft_of(4, 4, most=most), 1, most, "all drafts have been right")


@pytest.mark.parametrize(
    ("accepted", "rows", "expected"),
    [
        # p = accepted / (accepted + 1): this many were right, and one was wrong
        (1, 1, 4),  # 1/2: 0.0625 > 0.045, 0.0312 is not
        (1, 4, 2),  # 0.25 > 0.18, 0.125 is not
        (1, 8, 1),  # 0.5 > 0.36, 0.25 is not
        (1, 12, 0),  # 0.5 is not > 0.54
        (2, 1, 7),  # 2/3: 0.0585 > 0.045, 0.039 is not
        (2, 4, 4),  # 0.1975 > 0.18, 0.1317 is not
        (2, 8, 2),  # 0.444 > 0.36, 0.296 is not
        (2, 12, 1),  # 0.667 > 0.54, 0.444 is not
        (4, 1, 8),  # 0.8: 0.8 ** 8 = 0.168, and `most` is 8
        (4, 8, 4),  # 0.4096 > 0.36, 0.328 is not
        (4, 16, 1),  # 0.8 > 0.72, 0.64 is not
        (4, 20, 0),  # 0.8 is not > 0.9
    ],
)
def test_task_4_a_draft_is_made_while_it_is_worth_more_than_it_costs(accepted: int, rows: int, expected: int) -> None:
    p = accepted / (accepted + 1)
    adaptive = draft_of(8, accepted)
    assert_length(adaptive, rows, expected, f"p is {p:.3f}: draft while p^k > 0.045 · rows")


def test_task_4_drafts_behind_a_wrong_one_were_not_judged() -> None:
    """Of eight drafts two were right and one was wrong. The other five came after it, and nothing is known about them."""
    assert_length(draft_of(8, 2), 8, 2, "p is 2/3, not 2/8: after the first wrong draft nothing is judged")
    assert_length(draft_of(3, 2), 8, 2, "p is 2/3, however many were proposed")


def test_task_4_if_all_are_right_none_was_wrong() -> None:
    adaptive = answer.AdaptiveDraft(most=50)
    for _ in range(LONG):
        adaptive.update(2, 2)
    assert_length(adaptive, 8, 50, "two of two were right, again and again: p is 1, not 2/3")


def test_task_4_the_cost_of_a_token_counts() -> None:
    assert_length(draft_of(8, 2, token_cost=0.0), 8, 8, "a token that costs nothing is worth any draft")
    assert_length(draft_of(8, 2, token_cost=0.02), 8, 4, "(2/3)^4 = 0.198 > 0.16, and (2/3)^5 = 0.132 is not")
    assert_length(draft_of(8, 2, token_cost=0.5), 1, 1, "2/3 > 0.5, and 0.444 is not")
    assert_length(draft_of(8, 8, token_cost=1.0), 1, 0, "a token that costs a whole step is never worth more than it costs")


def test_task_4_more_rows_never_mean_more_drafts() -> None:
    for accepted in range(5):
        lengths = [draft_of(4, accepted).length(rows) for rows in range(1, 40)]
        assert lengths == sorted(lengths, reverse=True), f"{accepted} of 4 right: the fuller the batch, the fewer: {lengths}"


def test_task_4_nothing_proposed_is_nothing_learnt() -> None:
    adaptive = draft_of(8, 2)
    for _ in range(LONG):
        adaptive.length(8)
        adaptive.update(0, 0)
    for rows, expected in ((8, 2), (4, 4)):
        assert_length(adaptive, rows, expected, "the drafter knew nothing for a while, which is neither right nor wrong")


@pytest.mark.parametrize("rows", [1, 4, 8])
def test_task_4_wrong_drafts_end_it(rows: int) -> None:
    lengths = play(answer.AdaptiveDraft(), rows, 60, right=False)
    assert sum(lengths[:40]) <= 80, f"all drafts are wrong from the beginning, and this many are made: {lengths}"
    assert sum(lengths[44:]) <= 1, f"after 40 steps without a right draft, only one in 16 is tried: {lengths}"


def test_task_4_the_recent_past_decides() -> None:
    adaptive = draft_of(8, 8)
    lengths = play(adaptive, 8, 60, right=False)
    assert sum(lengths[44:]) <= 1, f"what was right long ago must be forgotten when drafts turn wrong: {lengths}"


# Trying again


def test_task_4_it_tries_again_in_every_16th_step() -> None:
    adaptive = draft_of(8, 0)
    lengths = play(adaptive, 8, 160, right=False)
    assert set(lengths) == {0, 1}, f"one draft at a time is tried while none is worth it: {lengths}"
    tries = [step for step, length in enumerate(lengths) if length]
    gaps = {later - earlier for earlier, later in itertools.pairwise(tries)}
    assert tries, "of 16 steps in which no draft is worth it, one tries: none did"
    assert tries[0] <= 16, f"of 16 steps in which no draft is worth it, one tries: first in step {tries[:1]}"
    assert gaps == {16}, f"the tries are 16 steps apart: {tries}"


@pytest.mark.parametrize("rows", [1, 8, 16])
def test_task_4_it_notices_that_the_text_repeats_itself(rows: int) -> None:
    adaptive = draft_of(8, 0)
    play(adaptive, rows, 50, right=False)
    lengths = play(adaptive, rows, 60, right=True)
    assert lengths[-1] == 8, f"{rows} rows: all drafts have been right for 60 steps, so they should be long again: {lengths}"


def test_task_4_it_does_not_try_what_can_never_pay() -> None:
    adaptive = draft_of(8, 0)
    lengths = [adaptive.length(23) for _ in range(100)]  # 0.045 · 23 = 1.035
    assert not any(lengths), f"one draft costs more than the token that it may give, so there is nothing to try: {lengths}"
    assert any(adaptive.length(8) for _ in range(16)), "with 8 rows it may pay again"


def test_task_4_steps_in_which_nothing_can_pay_are_not_counted() -> None:
    adaptive = draft_of(8, 0)
    tries = []
    for step in range(48):
        for rows in (23, 8):  # only the second may try
            length = adaptive.length(rows)
            if length:
                assert rows == 8, f"{rows} rows: a draft can't pay, so none is tried"
                tries.append(step)
                adaptive.update(1, 0)
    gaps = {later - earlier for earlier, later in itertools.pairwise(tries)}
    assert gaps == {16}, f"of the steps with 8 rows every 16th tries; those with 23 don't count: {tries}"


def test_task_4_requests_learn_for_themselves() -> None:
    good, bad = answer.AdaptiveDraft(), answer.AdaptiveDraft()
    for _ in range(LONG):
        good.update(4, 4)
        bad.update(4, 0)
    assert_length(good, 8, 8, "its drafts were right; the other request's were wrong")
    assert_length(bad, 8, 0, "its drafts were wrong; the other request's were right")


@pytest.mark.parametrize(("proposed", "accepted"), [(3, 4), (3, -1), (-1, -1), (0, 1)])
def test_task_4_impossible_counts_are_refused(proposed: int, accepted: int) -> None:
    adaptive = draft_of(8, 2)
    with refuses(ValueError, "0 <= accepted <= proposed is needed", str(accepted)):
        adaptive.update(proposed, accepted)
    assert_length(adaptive, 8, 2, "a refused update changes nothing")


@pytest.mark.parametrize("bad", [{"most": 0}, {"token_cost": -0.1}, {"token_cost": float("nan")}])
def test_task_4_impossible_sizes_are_refused(bad: dict[str, Any]) -> None:
    assert_length(draft_of(8, 2), 8, 2, "the usual sizes")
    with refuses(ValueError, f"{bad} makes no sense", next(iter(bad))):
        answer.AdaptiveDraft(**bad)


# Whole tiles


@pytest.mark.parametrize(
    ("planned", "lengths", "expected"),
    [
        (8, [3], [0]),  # 3 of 8 places would be filled
        (8, [4], [0]),  # half of them
        (8, [5], [5]),  # more than half
        (8, [8], [8]),  # all
        (8, [8, 2], [6, 2]),  # 18 tokens: 2 are too many
        (8, [8, 8, 8], [8, 8, 8]),
        (1, [8], [7]),  # 9 tokens: the ninth would begin a tile
        (1, [2], [2]),  # the tile of the planned token is computed anyhow
        (7, [1], [1]),
        (7, [3], [1]),  # one fills the tile, and two would begin another
        (7, [1, 0, 2], [0, 0, 1]),
        (9, [1, 1], [1, 1]),  # one of the planned tokens has begun this tile
        (16, [1] * 4, [0] * 4),
        (12, [2, 2, 2], [2, 1, 1]),  # 18 tokens
        (5, [0, 0], [0, 0]),
        (8, [], []),
    ],
)
def test_task_4_drafts_end_with_a_tile_that_pays(planned: int, lengths: list[int], expected: list[int]) -> None:
    given = list(lengths)
    got = answer.whole_tiles(planned, lengths)
    hint = f"{planned} tokens are planned, and drafts of {given} are there: {got} are left of them"
    assert lengths == given, f"{hint}, and the list that was given has changed: {lengths}"
    assert len(got) == len(given), f"{hint}: a length for each draft"
    assert all(0 <= left <= before for left, before in zip(got, given, strict=True)), f"{hint}: drafts get shorter, at least 0"
    assert sum(got) == sum(expected), (
        f"{hint}, and {sum(expected)} tokens should be: a tile of 8 that only drafts would begin, and fill by half or less, is"
        " not worth it, and one that is more than half full, or has planned tokens, is"
    )


def test_task_4_the_longest_draft_is_cut_first() -> None:
    assert answer.whole_tiles(8, [1, 8, 2]) == [1, 5, 2], (
        "8 planned tokens and 11 of drafts are 19, and 3 go: the last token of a long draft is the least likely to be right"
    )
    assert sorted(answer.whole_tiles(6, [4, 4, 4])) == [3, 3, 4], "6 planned tokens and 12 of drafts are 18, and 2 go"
