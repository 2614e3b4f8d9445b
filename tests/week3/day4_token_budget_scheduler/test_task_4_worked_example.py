"""Week 3 Day 4, task 4: the first prediction of the chapter, on paper."""

from itertools import zip_longest

from worked_example import PLANS, play_on_paper


def test_task_4_worked_example() -> None:
    for step, (got, expected) in enumerate(zip_longest(play_on_paper(), PLANS), 1):
        assert got == expected, (
            f"prediction 1, step {step}: decodes, chunks and preempted should be {expected}, and the plan has {got}."
            " The chapter's answer says why"
        )
