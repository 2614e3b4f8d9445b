"""Task 7: simulated groups start together and run until their longest answer is done; with a `max_wait`, a group that is not
full waits for others. Times are sums of powers of two, so they are compared exactly."""

from collections.abc import Iterator, Sequence
from math import inf, nan
from typing import Any

import pytest

from answer import answer
from simulating import (
    TICK,
    Call,
    Cost,
    Story,
    assert_ended_are_forgotten,
    assert_nothing_grows,
    assert_taken_one_by_one,
    dear,
    items,
    play,
    random_items,
)
from support import refuses
from tiny_llm_kit.workloads.items import WorkItem


def simulate(arrivals: Any, cost: Cost, size: int = 3, max_wait: float = 0.0, **options: Any) -> Story:
    return play(answer.simulate_groups, arrivals, cost, size, max_wait, **options)


# By hand: requests of 4, 12 and 8 tokens in a batch of three, and two that come after them. Each launch takes a second.


def play_example() -> Story:
    return simulate(items((1, 4), (1, 12), (1, 8), (1, 6), (1, 2)), Cost(per_launch=1))


def test_task_7_groups_use_24_of_36_slots() -> None:
    story = simulate(items((1, 4), (1, 12), (1, 8)), Cost(per_launch=1))
    assert story.utilization == (24, 36), (
        "a batch of three runs for 12 steps, and its answers need 4, 12 and 8 of them: 24 of 36 slots are in use, here"
        f" {story.utilization}"
    )
    metrics = answer.BatchingMetrics()
    answer.simulate_groups(items((1, 4), (1, 12), (1, 8)), Cost(per_launch=1), 3, readers=[metrics.update])
    assert metrics.slot_utilization == pytest.approx(24 / 36, rel=1e-12), "readers are told of every iteration"


def test_task_7_groups_start_when_the_last_one_is_over() -> None:
    example = play_example()
    assert example.times("ADMITTED") == {0: 0, 1: 0, 2: 0, 3: 12, 4: 12}, (
        f"the first group's longest answer is read at second 12; admitted were {example.times('ADMITTED')}"
    )
    assert example.times("FIRST_TOKEN") == {0: 1, 1: 1, 2: 1, 3: 13, 4: 13}, f"{example.times('FIRST_TOKEN')}"
    assert example.times("FINISHED") == {0: 4, 1: 12, 2: 8, 3: 18, 4: 14}, (
        f"a request that is done is told at once, though its row runs on: finished at {example.times('FINISHED')}"
    )


def test_task_7_groups_have_an_iteration_for_each_token() -> None:
    example = play_example()
    first = [(3, 2, 3)] * 4 + [(2, 2, 2)] * 4 + [(1, 2, 1)] * 4
    second = [(2, 0, 2)] * 2 + [(1, 0, 1)] * 4
    assert example.shape == first + second, (
        "of each iteration: answers that were not done before it, requests that wait, and tokens that came back; the prompts'"
        f" tokens come back in the group's first one: {example.shape}"
    )
    assert [state.time for state in example.states] == list(range(1, 19)), "an iteration ends when its tokens are back"
    assert [state.step for state in example.states] == list(range(18))
    assert {state.max_slots for state in example.states} == {3}


def test_task_7_groups_tell_of_everything_but_tokens_after_the_first() -> None:
    example = play_example()
    kinds = [event.kind.name for event in example.events if event.request_id == 0]
    assert kinds == ["ARRIVED", "ADMITTED", "PREFILL_CHUNK", "FIRST_TOKEN", "FINISHED"], f"a request's events were {kinds}"
    told = {event.kind.name for state in example.states for event in state.events}
    assert "TOKEN" not in told, "an event for every token would cost more than all else: only how many there were"
    finished = {event.request_id: event.tokens for event in example.events if event.kind is answer.EventKind.FINISHED}
    assert finished == {0: 4, 1: 12, 2: 8, 3: 6, 4: 2}, f"an end tells how many tokens there were: {finished}"


def test_task_7_groups_of_one_token_answers() -> None:
    cost = Cost(per_launch=1)
    story = simulate(items((3, 1), (3, 1), (3, 1)), cost, size=2)
    assert story.times("FINISHED") == {0: 1, 1: 1, 2: 2}, f"finished at {story.times('FINISHED')}"
    assert len(cost.launches) == 2, f"the prompts bring all that is wanted: no decode steps, but asked was {cost.launches}"


# What is asked of the cost model.


def test_task_7_groups_ask_the_cost_of_each_launch() -> None:
    cost = Cost(per_launch=1)
    simulate(items((5, 2), (9, 4)), cost, size=2, prefill_step=8)
    assert cost.launches[0] == [Call(5, 1, 5, 25), Call(8, 0, 8, 64), Call(1, 1, 9, 9)], (
        f"prompts of 5 and 9 tokens are computed chunk by chunk at the group's start, by themselves: {cost.launches[0]}"
    )
    assert cost.launches[1:] == [[Call(2, 2, 2 * keys, 2 * keys)] for keys in (10, 11, 12)], (
        "a decode step for each further token of the longest answer; every row runs on, also when its answer is done, and is"
        f" padded to the longest, new token included. Asked was {cost.launches[1:]}"
    )


def test_task_7_groups_pad_to_rows_that_are_done() -> None:
    cost = Cost(per_launch=1)
    simulate(items((20, 2), (2, 4)), cost, size=2)
    assert [call.context for call in cost.calls[2:]] == [42, 44, 46], (
        "the long row's answer is done after one step, and its row still grows and is read until the group is over:"
        f" {cost.calls[2:]}"
    )


# The same as counting it out.


def count_out(arrivals: Sequence[WorkItem], cost: Cost, size: int, max_wait: float, step: int) -> Iterator[dict[str, Any]]:
    """When each request is submitted, admitted, given its first token and done, worked out group by group."""
    now, coming, waiting = 0.0, list(enumerate(arrivals)), []  # type: ignore[var-annotated]

    def pass_until(moment: float) -> None:
        nonlocal now
        now = moment
        while coming and coming[0][1].arrival <= now:
            number, item = coming.pop(0)
            waiting.append((number, item, now))

    pass_until(0.0)
    while coming or waiting:
        start = inf if not waiting else now if len(waiting) >= size else waiting[0][2] + max_wait
        if start > now:
            pass_until(min(start, coming[0][1].arrival if coming else inf))
            continue
        group, waiting[:] = waiting[:size], waiting[size:]
        began = now
        chunks = [
            Call(end - begin, int(end == len(item.prompt)), end, (end - begin) * end)
            for _, item, _ in group
            for begin in range(0, len(item.prompt), step)
            for end in [min(begin + step, len(item.prompt))]
        ]
        longest, most = max(len(item.prompt) for _, item, _ in group), max(item.max_tokens for _, item, _ in group)
        computed = [began + cost.seconds(chunks)]
        for number in range(1, most):
            keys = len(group) * (longest + number)
            computed.append(computed[-1] + cost.seconds([Call(len(group), len(group), keys, keys)]))
        read = [computed[min(number + cost.launch_waits, most - 1)] for number in range(most)]
        for moment in read:
            pass_until(moment)
        for number, item, came in group:
            end = read[item.max_tokens - 1]
            yield {"request": number, "ARRIVED": came, "ADMITTED": began, "FIRST_TOKEN": read[0], "FINISHED": end}


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("max_wait", [0.0, 40 * TICK, 2000 * TICK])
@pytest.mark.parametrize("size", [1, 3, 6])
@pytest.mark.parametrize("seed", range(3))
def test_task_7_groups_take_the_time_that_can_be_counted(seed: int, size: int, max_wait: float, waits: bool) -> None:
    arrivals = random_items(seed, count=24)
    story = simulate(arrivals, dear(waits), size, max_wait, prefill_step=7)
    for expected in count_out(arrivals, dear(waits), size, max_wait, 7):
        number = expected.pop("request")
        for kind, time in expected.items():
            found = story.times(kind).get(number)
            assert found == time, (
                f"groups of at most {size}, max_wait {max_wait} s, and a launch {'waits' if waits else 'returns at once'}:"
                f" {kind} of request {number} should be at {time} s, was at {found}"
                + ("" if found is None else f", {abs(found - time)} s too {'late' if found > time else 'early'}")
                + ". Of the requests of earlier groups all is right"
            )
    assert story.wishes == [(number, item.arrival) for number, item in enumerate(arrivals)], (
        f"`wanted` is told when each client wanted its request: {story.wishes}"
    )
    assert sum(state.new_tokens for state in story.states) == sum(item.max_tokens for item in arrivals)


# Waiting for a group to fill.


def test_task_7_groups_wait_for_others() -> None:
    story = simulate(items((1, 2), (1, 2, 3), (1, 2, 60)), Cost(per_launch=1), max_wait=10)
    assert story.times("ADMITTED") == {0: 10, 1: 10, 2: 70}, (
        f"a group of three that is not full starts when its oldest has waited 10 seconds: {story.times('ADMITTED')}"
    )


def test_task_7_groups_start_as_soon_as_they_are_full() -> None:
    story = simulate(items((1, 2), (1, 2, 3), (1, 2, 4)), Cost(per_launch=1), max_wait=10)
    assert set(story.times("ADMITTED").values()) == {4}, f"the third comes at second 4: {story.times('ADMITTED')}"


@pytest.mark.parametrize(("max_wait", "starts"), [(8, 12), (20, 22)])
def test_task_7_groups_count_the_wait_from_when_the_engine_heard(max_wait: float, starts: float) -> None:
    story = simulate(items((1, 12), (1, 1), (1, 1, 1.5)), Cost(per_launch=1), size=2, max_wait=max_wait)
    assert story.times("ADMITTED")[2] == starts, (
        f"request 2 is heard of at second 2 while a group runs until 12, and may have to wait {max_wait} seconds, which began"
        f" then: it started at {story.times('ADMITTED')[2]}"
    )


def test_task_7_groups_do_nothing_while_they_wait() -> None:
    story = simulate(items((1, 2), (1, 2, 3), (1, 2, 60)), Cost(per_launch=1), max_wait=10)
    assert len(story.states) == 4, f"two groups of two tokens each are four iterations; there were {len(story.states)}"


# Arrivals, and what is refused.


def test_task_7_groups_without_requests() -> None:
    assert simulate([], Cost(per_launch=1)).states == [], "no request comes, so nothing happens"


@pytest.mark.parametrize("gap", [1.0, 16.0])
def test_task_7_groups_take_arrivals_one_by_one(gap: float) -> None:
    assert_taken_one_by_one(answer.simulate_groups, gap)


def test_task_7_groups_forget_requests_that_have_ended() -> None:
    assert_ended_are_forgotten(answer.simulate_groups)


def test_task_7_groups_keep_nothing_that_grows() -> None:
    assert_nothing_grows(answer.simulate_groups)


def test_task_7_groups_of_a_long_answer() -> None:
    story = simulate([WorkItem((250_000, 3), 700)], Cost(per_launch=1))
    assert sum(state.new_tokens for state in story.states) == 700, (
        "an answer goes on to its max_tokens, 700, and a prompt may hold any tokens: there is no model that would not know them"
    )


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"batch_size": 0}, "0"),
        ({"prefill_step": 0}, "0"),
        ({"max_wait": -0.5}, "-0.5"),
        ({"max_wait": nan}, "nan"),
        ({"max_wait": inf}, "inf"),
    ],
)
def test_task_7_groups_refuse_sizes_and_waits_that_mean_nothing(options: dict[str, Any], named: str) -> None:
    sizes = {"batch_size": 2} | options
    with refuses(ValueError, f"a simulation with {sizes}", named):
        answer.simulate_groups(items((1, 1)), Cost(per_launch=1), **sizes)


@pytest.mark.parametrize("arrivals", [(2.0, 1.0), (-1.0,), (0.0, nan)])
def test_task_7_groups_refuse_arrivals_that_do_not_ascend(arrivals: tuple[float, ...]) -> None:
    with refuses(ValueError, f"requests that arrive at {arrivals}, in this order"):
        simulate(items(*((1, 1, arrival) for arrival in arrivals)), Cost(per_launch=1))


def test_task_7_groups_refuse_an_empty_prompt() -> None:
    with refuses(ValueError, "a request with an empty prompt, which the engine refuses, too"):
        simulate(items((0, 4)), Cost(per_launch=1))
