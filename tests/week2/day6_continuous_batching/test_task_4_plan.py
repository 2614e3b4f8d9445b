"""Task 4, first part: the plan of an iteration. It needs `plan_step`, and no model."""

from types import SimpleNamespace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer

FIRST = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[:count])


def at(length: int, offset: int = 0) -> Any:
    """A request whose prompt has `length` tokens, `offset` of which (or more) are computed."""
    request = answer.Request([1] * length, 5)
    request.offset = offset
    return request


def test_task_4_plan_a_plan_for_nobody() -> None:
    plan = answer.plan_step([], [], 4, 8, FIRST)
    assert (list(plan.prefill), list(plan.decode)) == ([], [])


def test_task_4_plan_everyone_who_decodes_gets_a_token() -> None:
    decoding = [at(5, 5), at(3, 9)]
    plan = answer.plan_step([at(4)], [decoding[0], at(30, 16), decoding[1]], 3, 8, FIRST)
    assert list(plan.decode) == decoding, "decoding requests, and only those, whatever is prefilled beside"


def test_task_4_plan_a_prompt_is_continued_before_another_begins() -> None:
    halfway, newcomer = at(30, 16), at(4)
    plan = answer.plan_step([newcomer], [halfway], 4, 8, FIRST)
    assert [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill] == [(halfway, 16, 24)], (
        "8 tokens an iteration, and they belong to the prompt that has begun"
    )


def test_task_4_plan_the_strategy_chooses_who_is_admitted() -> None:
    last = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[::-1][:count])
    queue = [at(20), at(21), at(22)]
    plan = answer.plan_step(queue, [], 4, 8, last)
    assert [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill] == [(queue[2], 0, 8)]


def test_task_4_plan_nobody_is_admitted_without_a_slot() -> None:
    plan = answer.plan_step([at(4)], [at(5, 5), at(3, 9)], 2, 8, FIRST)
    assert list(plan.prefill) == [], "both slots are taken"


@settings(max_examples=200)
@given(
    queue=st.lists(st.integers(1, 20), max_size=5),
    running=st.lists(st.integers(0, 12), max_size=5),
    halfway=st.none() | st.tuples(st.integers(1, 10), st.integers(1, 10)),
    free=st.integers(0, 3),
    prefill_step=st.integers(1, 12),
)
def test_task_4_plan_the_rules_of_a_plan(
    queue: list[int], running: list[int], halfway: tuple[int, int] | None, free: int, prefill_step: int
) -> None:
    waiting = [at(length) for length in queue]
    decoding = [at(3, 3 + extra) for extra in running]
    begun = [at(sum(halfway), halfway[0])] if halfway else []
    max_slots = max(1, len(decoding) + len(begun) + free)
    before = list(waiting)
    plan = answer.plan_step(waiting, [*decoding, *begun], max_slots, prefill_step, FIRST)

    chunks = list(plan.prefill)
    assert waiting == before, "a plan changes nothing: whoever runs it moves the requests"
    assert list(plan.decode) == decoding
    assert sum(chunk.end - chunk.start for chunk in chunks) <= prefill_step, "more prompt tokens than an iteration may compute"
    for chunk in chunks:
        assert chunk.start == chunk.request.offset, "a chunk begins where the last one ended"
        assert chunk.start < chunk.end <= len(chunk.request.prompt)
    admitted = [chunk.request for chunk in chunks if chunk.request in waiting]
    assert len({id(chunk.request) for chunk in chunks}) == len(chunks)
    assert len(decoding) + len(begun) + len(admitted) <= max_slots, "a request is admitted only if a slot will be free for it"
    ends = {id(chunk.request): chunk.end for chunk in chunks}
    unfinished = [r for r in [*begun, *admitted] if ends.get(id(r), r.offset) < len(r.prompt)]
    assert len(unfinished) <= 1, "at most one request is in the middle of its prompt"
    if begun or (waiting and free):
        assert chunks, "there is a prompt to compute and a slot for it: an iteration without a chunk is lost"
