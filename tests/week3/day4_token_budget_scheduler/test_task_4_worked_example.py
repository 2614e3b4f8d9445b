"""Week 3 Day 4, task 4: predictions 1 and 5 of the chapter, on paper."""

from itertools import zip_longest

import pytest

from answer import answer
from worked_example import PLANS, play_on_paper


def test_task_4_worked_example() -> None:
    for step, (got, expected) in enumerate(zip_longest(play_on_paper(), PLANS), 1):
        assert got == expected, (
            f"prediction 1, step {step}: decodes, chunks and preempted should be {expected}, and the plan has {got}."
            " The chapter's answer says why"
        )


@pytest.mark.parametrize(("budget", "expected"), [(40, 63), (136, 16)])
def test_task_4_a_long_prompt_takes_many_steps(budget: int, expected: int) -> None:
    pool = answer.BlockPool(400)
    scheduler, cache = answer.Scheduler(16, budget), answer.PrefixCache(pool)
    reader = answer.PagedRequest([1] * 2000, 5)
    decoding = [answer.PagedRequest([2], 1000) for _ in range(8)]
    for request in [*decoding, reader]:
        request.hold(pool.allocate(125 if request is reader else 5))
    steps = 0
    while reader.to_compute > 1 and steps < 2000:
        plan = scheduler.plan([], [*decoding, reader], pool, cache)
        assert plan.decodes == decoding, f"step {steps}: the eight who decode get a token, whatever is left of the prompt"
        (chunk,) = plan.chunks
        reader.offset = chunk.end
        steps += 1
    assert steps == expected, f"prediction 5: {budget} tokens less 8 are left for the prompt, and 2,000 take {expected} steps"
