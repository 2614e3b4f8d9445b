"""Task 4, first part: the plan of an iteration. It needs `plan_step`, and no model.

Plans are told apart by the lengths of their prompts: "tokens 0 to 8 of 20" is a chunk of the prompt that has 20 tokens.
"""

from collections.abc import Collection, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer

Chunk = tuple[Any, int, int]

FIRST = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[:count])
LAST = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[::-1][:count])


def at(length: int, offset: int = 0) -> Any:
    """A request whose prompt has `length` tokens, `offset` of which (or more) are computed."""
    request = answer.Request([1] * length, 5)
    request.offset = offset
    return request


def plan_of(waiting: Collection[Any], running: Sequence[Any], slots: int = 4, step: int = 8, strategy: Any = FIRST) -> Any:
    return answer.plan_step(waiting, running, slots, step, strategy)


def show(chunks: Sequence[Chunk]) -> str:
    return "; ".join(f"tokens {start} to {end} of {len(request.prompt)}" for request, start, end in chunks) or "no chunk"


def assert_chunks(plan: Any, expected: Sequence[Chunk], look_at: str) -> None:
    """The plan has exactly these chunks, in this order."""
    __tracebackhide__ = True
    planned = [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill]
    assert planned == list(expected), f"{look_at}. Planned: {show(planned)}; expected: {show(expected)}"


def run(plan: Any, waiting: list[Any], running: list[Any]) -> None:
    """What an engine does with a plan, as far as the next one depends on it."""
    for chunk in plan.prefill:
        if chunk.request in waiting:
            waiting.remove(chunk.request)
            running.append(chunk.request)
        chunk.request.offset = chunk.end
    for request in plan.decode:
        request.offset += 1


def test_task_4_plan_for_nobody() -> None:
    plan = plan_of([], [])
    assert (list(plan.prefill), list(plan.decode)) == ([], []), "no request waits or runs: an empty plan"


# Decode.


def test_task_4_plan_gives_a_token_to_everyone_who_decodes() -> None:
    second, first, third = at(3, 9), at(5, 5), at(4, 4)
    plan = plan_of([at(7)], [first, at(30, 16), third, second])
    assert list(plan.decode) == [first, third, second], (
        "those whose whole prompt is computed, in the order of `running`, and no others, whatever is prefilled alongside"
    )


def test_task_4_plan_decodes_nobody_whose_prompt_lacks_a_token() -> None:
    almost, done = at(9, 8), at(9, 9)
    plan = plan_of([], [almost, done])
    assert list(plan.decode) == [done], "a request decodes when `offset` has reached the length of its prompt, and not before"
    assert_chunks(plan, [(almost, 8, 9)], "the last token of a prompt is a chunk, too")


# One prompt after the other.


def test_task_4_plan_begins_a_long_prompt_with_a_whole_chunk() -> None:
    long = at(20)
    assert_chunks(plan_of([long, at(3)], []), [(long, 0, 8)], "the first chunk takes all of the budget, 8 tokens")


@pytest.mark.parametrize("step", [1, 7, 20, 50, 128, 515])
def test_task_4_plan_uses_up_the_budget_whatever_its_size(step: int) -> None:
    for offset in (0, 3, 32, 501):
        long = at(offset + step + 1, offset)
        waiting, running = ([], [long]) if offset else ([long], [])
        assert_chunks(
            plan_of(waiting, running, step=step),
            [(long, offset, offset + step)],
            f"a prompt with {step + 1} tokens left takes all {step} of the budget: a chunk has no sizes that it likes better",
        )


def test_task_4_plan_continues_a_prompt_before_another_begins() -> None:
    halfway = at(30, 16)
    plan = plan_of([at(4)], [halfway])
    assert_chunks(plan, [(halfway, 16, 24)], "the budget belongs to the prompt that has begun, from its `offset` on")


def test_task_4_plan_continues_a_prompt_when_all_slots_are_taken() -> None:
    halfway = at(30, 16)
    plan = plan_of([at(4)], [at(5, 5), halfway], slots=2)
    assert_chunks(plan, [(halfway, 16, 24)], "a request in the middle of its prompt runs already: it needs no free slot")


def test_task_4_plan_admits_somebody_after_a_last_chunk_that_leaves_room() -> None:
    ending, short = at(11, 8), at(5)
    plan = plan_of([short, at(6)], [ending])
    assert_chunks(plan, [(ending, 8, 11), (short, 0, 5)], "3 tokens end a prompt, and the other 5 of the budget are a prompt")


def test_task_4_plan_takes_several_whole_prompts() -> None:
    queue = [at(2), at(3), at(1), at(4)]
    plan = plan_of(queue, [])
    assert_chunks(
        plan, [(queue[0], 0, 2), (queue[1], 0, 3), (queue[2], 0, 1)], "2 + 3 + 1 tokens fit into 8, and 4 more do not"
    )


@pytest.mark.parametrize("length", [4, 5, 6, 7])
def test_task_4_plan_fits_exactly(length: int) -> None:
    first, second = at(3), at(length)
    expected = [(first, 0, 3), (second, 0, length)][: 2 if length <= 5 else 1]
    assert_chunks(
        plan_of([first, second, at(9)], []), expected, f"a budget of 8 holds 3 tokens and 5, and here are 3 and {length}"
    )


def test_task_4_plan_ends_when_the_budget_is_used_up() -> None:
    first, second = at(3), at(5)
    plan = plan_of([first, second, at(1), at(2)], [])
    assert_chunks(plan, [(first, 0, 3), (second, 0, 5)], "nothing is left of the budget, and a chunk of no tokens is none")


@pytest.mark.parametrize("length", [6, 9, 40])
def test_task_4_plan_begins_no_prompt_with_a_crumb(length: int) -> None:
    ending = at(13, 10)
    plan = plan_of([at(length)], [ending])
    assert_chunks(
        plan, [(ending, 10, 13)], f"5 tokens are left, and {length} do not fit: a prompt is not begun with a left-over"
    )
    short = at(3)
    plan = plan_of([short, at(length)], [])
    assert_chunks(plan, [(short, 0, 3)], f"5 tokens are left, and {length} do not fit: a prompt is not begun with a left-over")


def test_task_4_plan_lets_nobody_overtake_who_does_not_fit() -> None:
    fits = at(3)
    plan = plan_of([fits, at(6), at(2), at(1)], [])
    assert_chunks(
        plan, [(fits, 0, 3)], "6 do not fit into the 5 that are left, which ends the plan: the 2 after it must not overtake"
    )


# The chapter's third prediction.


def test_task_4_plan_of_the_third_prediction() -> None:
    halfway, twenty, sixty = at(228, 128), at(20), at(60)
    waiting, running = [twenty, sixty], [halfway]
    plan = plan_of(waiting, running, step=128)
    assert_chunks(plan, [(halfway, 128, 228), (twenty, 0, 20)], "100 + 20 tokens of 128, and 60 do not fit into 8")
    run(plan, waiting, running)
    plan = plan_of(waiting, running, step=128)
    assert_chunks(plan, [(sixty, 0, 60)], "the next iteration has a budget of its own")
    assert list(plan.decode) == [halfway, twenty], "both prompts are computed"


def test_task_4_plan_of_the_third_prediction_if_the_longer_came_first() -> None:
    halfway, twenty, sixty = at(228, 128), at(20), at(60)
    waiting, running = [sixty, twenty], [halfway]
    plan = plan_of(waiting, running, step=128)
    assert_chunks(plan, [(halfway, 128, 228)], "60 tokens do not fit into 28, and the 20 after them must not overtake")
    run(plan, waiting, running)
    plan = plan_of(waiting, running, step=128)
    assert_chunks(plan, [(sixty, 0, 60), (twenty, 0, 20)], "60 + 20 tokens of 128")


@pytest.mark.parametrize("length", [27, 28, 29])
def test_task_4_plan_at_the_edge_of_the_third_prediction(length: int) -> None:
    halfway, other = at(228, 128), at(length)
    expected = [(halfway, 128, 228), (other, 0, length)][: 2 if length <= 28 else 1]
    assert_chunks(plan_of([other], [halfway], step=128), expected, f"28 tokens are left for a prompt of {length}")


# Slots, and what the strategy chooses.


def test_task_4_plan_admits_nobody_without_a_slot() -> None:
    assert_chunks(plan_of([at(4)], [at(5, 5), at(3, 9)], slots=2), [], "both slots are taken")


def test_task_4_plan_counts_slots() -> None:
    decoding, ending, queue = at(5, 6), at(10, 8), [at(2), at(1), at(3)]
    for free in (1, 2):
        plan = plan_of(queue, [decoding, ending], slots=2 + free)
        expected = [(ending, 8, 10), (queue[0], 0, 2), (queue[1], 0, 1)][: 1 + free]
        assert_chunks(plan, expected, f"{2 + free} slots, and two run: {free} more may be admitted, however many would fit")


def test_task_4_plan_admits_in_the_order_of_the_strategy() -> None:
    queue = [at(20), at(21), at(3), at(4)]
    plan = plan_of(queue, [], strategy=LAST)
    assert_chunks(plan, [(queue[3], 0, 4), (queue[2], 0, 3)], "this strategy takes who came last; 21 do not fit into the rest")
    nobody = SimpleNamespace(choose=lambda waiting, running, count: [])
    assert_chunks(plan_of(queue, [], strategy=nobody), [], "a strategy may choose none")


def test_task_4_plan_asks_the_strategy_once_for_all_free_slots() -> None:
    asked = []

    def choose(waiting: Collection[Any], running: Sequence[Any], count: int) -> list[Any]:
        asked.append((list(waiting), list(running), count))
        return list(waiting)[:count]

    queue, running = [at(1), at(2), at(3), at(4), at(5)], [at(5, 5), at(12, 10)]
    plan = plan_of(queue, running, slots=5, strategy=SimpleNamespace(choose=choose))
    assert len(asked) == 1, f"the strategy was asked {len(asked)} times: once, and it ranks those that it chooses together"
    assert asked[0][2] == 3, f"it was asked for {asked[0][2]} requests: two of five slots are taken"
    assert asked[0][0] == queue, "all who wait, in order of arrival, are what it chooses from"
    assert asked[0][1] == running, "all who run, also in the middle of a prompt, are what a length-balance looks at"
    assert_chunks(
        plan, [(running[1], 10, 12), (queue[0], 0, 1), (queue[1], 0, 2), (queue[2], 0, 3)], "2 + 1 + 2 + 3 tokens of 8"
    )


@pytest.mark.parametrize(
    ("offset", "chunk"), [(15, None), (4, (4, 12)), (13, (13, 15))], ids=["all decode", "one is halfway", "one is nearly done"]
)
def test_task_4_plan_does_not_ask_the_strategy_when_no_slot_is_free(offset: int, chunk: tuple[int, int] | None) -> None:
    asked = []

    def choose(waiting: Collection[Any], running: Sequence[Any], count: int) -> list[Any]:
        asked.append(count)
        return list(waiting)[: max(1, count)]

    running = [at(5, 5), at(15, offset)]
    plan = plan_of([at(2), at(3)], running, slots=2, strategy=SimpleNamespace(choose=choose))
    expected = [(running[1], *chunk)] if chunk else []
    assert_chunks(plan, expected, "two of two slots are taken, and this strategy would name one even if asked for 0")
    assert not asked, f"the strategy was asked for {asked[0]} requests: two of two slots are taken, so there is nothing to ask"


def test_task_4_plan_lets_the_strategy_see_everyone_in_a_long_queue() -> None:
    queue = [at(3) for _ in range(3000)] + [at(2), at(4)]
    plan = plan_of(queue, [], slots=2, strategy=LAST)
    assert_chunks(
        plan,
        [(queue[-1], 0, 4), (queue[-2], 0, 2)],
        "3,002 wait, and this strategy takes who came last: it is given all of them",
    )


class Queue(Collection[Any]):
    """A queue that counts how many of those in it are looked at."""

    def __init__(self, length: int) -> None:
        self.requests = [at(9) for _ in range(length)]
        self.looked_at = 0

    def __len__(self) -> int:
        return len(self.requests)

    def __contains__(self, request: object) -> bool:
        return any(request is other for other in self)

    def __iter__(self) -> Iterator[Any]:
        for request in self.requests:
            self.looked_at += 1
            yield request


def test_task_4_plan_costs_the_same_however_many_wait() -> None:
    queue = Queue(500)
    plan_of(queue, [at(5, 5), at(30, 16)], slots=2)
    assert queue.looked_at == 0, (
        f"no slot is free, and the plan looked at {queue.looked_at} of 500 who wait: the queue is the strategy's business,"
        " which is asked when a slot is free"
    )
    plan_of(queue, [at(5, 5)], slots=3, strategy=answer.Fifo())
    assert queue.looked_at <= 3, (
        f"two slots are free, first come first served, and {queue.looked_at} of 500 who wait were looked at: hand the queue to"
        " the strategy as it is, without a copy"
    )


def test_task_4_plan_reads_a_queue_that_has_no_places() -> None:
    queue = {5: at(4), 3: at(2)}
    plan = plan_of(queue.values(), [])
    assert_chunks(
        plan, [(queue[5], 0, 4), (queue[3], 0, 2)], "the engine's queue is the values of a dict: a collection, no list"
    )


# Whatever the situation.

HALFWAY = st.none() | st.tuples(st.integers(1, 10), st.integers(1, 10))


@settings(max_examples=200)
@given(
    queue=st.lists(st.integers(1, 14), max_size=5),
    running=st.lists(st.integers(0, 12), max_size=5),
    halfway=HALFWAY,
    free=st.integers(0, 4),
    prefill_step=st.integers(1, 16),
)
def test_task_4_plan_obeys_all_rules(
    queue: list[int], running: list[int], halfway: tuple[int, int] | None, free: int, prefill_step: int
) -> None:
    waiting = [at(length) for length in queue]
    decoding = [at(3, 3 + extra) for extra in running]
    begun = [at(sum(halfway), halfway[0])] if halfway else []
    max_slots = max(1, len(decoding) + len(begun) + free)
    free = max_slots - len(decoding) - len(begun)
    plan = plan_of(waiting, [*decoding, *begun], max_slots, prefill_step)

    chunks = list(plan.prefill)
    candidates = [*begun, *waiting[:free]]
    assert list(plan.decode) == decoding, "each request decodes whose prompt is computed, in the order of `running`"
    assert [chunk.request for chunk in chunks] == candidates[: len(chunks)], (
        "first the prompt that has begun, then those waiting, in the strategy's order, as many as slots are free; each once"
    )
    budget = prefill_step
    for i, chunk in enumerate(chunks):
        left = len(chunk.request.prompt) - chunk.request.offset
        assert chunk.start == chunk.request.offset, "a chunk begins where the last one ended"
        assert 0 < chunk.end - chunk.start <= budget, "more prompt tokens than an iteration may compute, or none at all"
        assert chunk.end - chunk.start == (left if i else min(left, prefill_step)), (
            "only the first chunk may be a part of a prompt"
        )
        budget -= chunk.end - chunk.start
    for request in candidates[len(chunks) : len(chunks) + 1]:
        left = len(request.prompt) - request.offset
        assert chunks, "there is a prompt to compute and a slot for it: an iteration without a chunk is lost"
        assert left > budget, f"{budget} tokens of the budget are unused, and the next prompt has {left}"


@settings(max_examples=50)
@given(queue=st.lists(st.integers(1, 14), max_size=5), halfway=HALFWAY, prefill_step=st.integers(1, 16))
def test_task_4_plan_changes_nothing(queue: list[int], halfway: tuple[int, int] | None, prefill_step: int) -> None:
    waiting = {length: at(length) for length in queue}
    running = [at(3, 5), *([at(sum(halfway), halfway[0])] if halfway else [])]

    def everything() -> Any:
        everyone = [*waiting.values(), *running]
        counters = [(r.offset, r.overtaken, r.kv_cache, list(r.prompt), list(r.generated_tokens), r.state) for r in everyone]
        return [id(request) for request in everyone], counters

    before = everything()
    plan_of(waiting.values(), running, 4, prefill_step)
    assert everything() == before, "planning changes no queue, no list and no counter: running the plan does"
