"""Task 7: the simulated engine of slots does what the engine does, iteration by iteration, and takes the time that a cost model
says. Times are sums of powers of two, so they are compared exactly."""

from collections.abc import Sequence
from typing import Any

import pytest

from answer import answer
from patience import SIMULATED
from simulating import (
    Call,
    Cost,
    PricedModel,
    Story,
    assert_ended_are_forgotten,
    assert_nothing_grows,
    assert_taken_one_by_one,
    dear,
    items,
    play,
    random_items,
    serve,
)
from support import ToyModel, refuses
from tiny_llm_kit.workloads.items import WorkItem

pytestmark = pytest.mark.timeout(SIMULATED)


def simulate(arrivals: Any, cost: Cost, slots: int = 3, **options: Any) -> Story:
    return play(answer.simulate_slots, arrivals, cost, slots, **options)


# By hand: the log that the page shows, in seconds for its steps of 10 ms. Each call takes a second.


def test_task_7_slots_of_one_request() -> None:
    story = simulate(items((5, 3)), Cost(per_call=1), slots=1, prefill_step=4)
    seen = [(state.time, state.active_requests, state.queue_size, state.new_tokens) for state in story.states]
    assert seen == [(0, 1, 0, 0), (0, 1, 0, 0), (2, 1, 0, 1), (3, 1, 0, 1), (4, 0, 0, 1)], (
        "5 prompt tokens in chunks of 4, and 3 tokens, in one slot: of each iteration when it ends, slots in use, queue and new"
        f" tokens. Nobody waits for the first chunk, and an iteration reads what the one before it launched; it was {seen}"
    )
    chunks = [(event.time, event.tokens, event.position) for event in story.events if event.kind.name == "PREFILL_CHUNK"]
    assert chunks == [(0, 4, 4), (0, 1, 5)], f"a chunk is logged when it is launched: time, tokens, position were {chunks}"
    assert (story.times("FIRST_TOKEN"), story.times("FINISHED")) == ({0: 2}, {0: 4}), (
        f"two chunks take 2 s, each further token 1 s: first token {story.times('FIRST_TOKEN')}, end {story.times('FINISHED')}"
    )


def test_task_7_slots_play_the_log_of_the_page() -> None:
    story = simulate(items((5, 3), (2, 2)), Cost(per_call=1), slots=1, prefill_step=4)
    seen = [(state.time, state.active_requests, state.queue_size) for state in story.states]
    assert seen == [(0, 1, 1), (0, 1, 1), (2, 1, 1), (3, 1, 1), (4, 1, 0), (5, 1, 0), (6, 0, 0)], (
        "the seven states of the table in *One log*, in units of 10 ms: when each iteration ends, slots in use, waiting; they"
        f" were {seen}"
    )
    assert story.times("ADMITTED") == {0: 0, 1: 3}, (
        f"B is admitted at 3, while A's last token is still being computed; admitted at {story.times('ADMITTED')}"
    )
    ends = (story.times("FIRST_TOKEN"), story.times("FINISHED"))
    assert ends == ({0: 2, 1: 5}, {0: 4, 1: 6}), f"first tokens at 2 and 5, ends at 4 and 6, as in the table; they were {ends}"


# By hand: requests of 4, 12 and 8 tokens in three slots, and two that wait for one. Each launch takes a second.


def play_example() -> Story:
    return simulate(items((1, 4), (1, 12), (1, 8), (1, 6), (1, 2)), Cost(per_launch=1))


def test_task_7_slots_are_free_as_soon_as_the_last_token_is_launched() -> None:
    example = play_example()
    assert example.times("FIRST_TOKEN") == {0: 1, 1: 1, 2: 1, 3: 5, 4: 9}, (
        "the prompts of requests 0 to 2 are launched at second 0, and a launch takes a second. Request 0's fourth token is"
        " launched at second 2 (in iteration 3), so request 3's prompt is at second 3, and its token comes back at 5, since"
        f" launches are computed one after another. First tokens came at {example.times('FIRST_TOKEN')}"
    )
    assert example.times("ADMITTED") == {0: 0, 1: 0, 2: 0, 3: 3, 4: 7}, (
        f"admitted at {example.times('ADMITTED')}; the fourth (request 3) should be admitted at 3, while request 0's last token"
        " is still computed: its slot is free as soon as that is launched"
    )
    assert example.times("FINISHED") == {0: 4, 1: 12, 2: 8, 3: 10, 4: 10}, f"finished at {example.times('FINISHED')}"


def test_task_7_slots_end_one_iteration_late() -> None:
    example = play_example()
    assert example.steps("ADMITTED") == {0: 0, 1: 0, 2: 0, 3: 4, 4: 8}, f"admitted in iterations {example.steps('ADMITTED')}"
    assert example.steps("FINISHED") == {0: 4, 1: 12, 2: 8, 3: 10, 4: 10}, (
        "an iteration reads what the one before it launched: the last of 4 tokens is launched in iteration 3 and read in 4;"
        f" requests finished in iterations {example.steps('FINISHED')}"
    )


def test_task_7_slots_in_use_and_queue_of_each_iteration() -> None:
    example = play_example()
    assert example.shape == [
        (3, 2, 0),
        (3, 2, 3),
        (3, 2, 3),
        (3, 2, 3),
        (3, 1, 3),
        (3, 1, 3),
        (3, 1, 3),
        (3, 1, 3),
        (3, 0, 3),
        (3, 0, 3),
        (1, 0, 3),
        (1, 0, 1),
        (0, 0, 1),
    ], (
        "of each iteration: requests that have or need a slot as the plan left them, those left waiting, and the tokens that"
        f" came back, which the iteration before launched: {example.shape}"
    )
    assert [state.time for state in example.states] == list(range(13)), "a launch takes a second, so iterations end at 0, 1, …"
    assert [state.step for state in example.states] == list(range(13))
    assert {state.max_slots for state in example.states} == {3}


def test_task_7_slots_tell_of_everything_but_tokens_after_the_first() -> None:
    example = play_example()
    kinds = [event.kind.name for event in example.events if event.request_id == 0]
    assert kinds == ["ARRIVED", "ADMITTED", "PREFILL_CHUNK", "FIRST_TOKEN", "FINISHED"], f"a request's events were {kinds}"
    told = {event.kind.name for state in example.states for event in state.events}
    assert "TOKEN" not in told, "an event for every token would cost more than all else: only how many there were"
    finished = {event.request_id: event.tokens for event in example.events if event.kind is answer.EventKind.FINISHED}
    assert finished == {0: 4, 1: 12, 2: 8, 3: 6, 4: 2}, f"an end tells how many tokens there were: {finished}"
    assert sum(state.new_tokens for state in example.states) == 32


def test_task_7_slots_of_one_token_answers() -> None:
    story = simulate(items((3, 1), (3, 1), (3, 2)), Cost(per_launch=1), slots=1, prefill_step=8)
    assert story.times("FINISHED") == {0: 1, 1: 2, 2: 4}, (
        "a request that wants one token never needs a row, and it has all it wants when its prompt is launched; finished at"
        f" {story.times('FINISHED')}"
    )


# What is asked of the cost model.


def test_task_7_slots_ask_the_cost_of_each_launch() -> None:
    cost = Cost(per_launch=1)
    simulate(items((5, 3), (9, 2)), cost, slots=2, prefill_step=8)
    assert cost.launches == [
        [Call(5, 1, 5, 25)],
        [Call(1, 1, 6, 6), Call(8, 0, 8, 64)],
        [Call(1, 1, 7, 7), Call(1, 1, 9, 9)],
        [Call(1, 1, 10, 10)],
    ], (
        "tokens, outputs, keys that are read, and pairs, of all calls of an iteration at once: prompts of 5 and 9 tokens in"
        f" chunks of 8. Asked was {cost.launches}"
    )


def test_task_7_slots_pad_rows_to_the_longest() -> None:
    cost = Cost(per_launch=1)
    simulate(items((20, 3), (2, 6)), cost, slots=2)
    decodes = cost.launches[1:]
    assert decodes == [
        [Call(2, 2, 2 * 21, 2 * 21)],
        [Call(2, 2, 2 * 22, 2 * 22)],
        [Call(1, 1, 5, 5)],
        [Call(1, 1, 6, 6)],
        [Call(1, 1, 7, 7)],
    ], (
        "both rows read as many keys as the longer one has, its new token included; when it is gone, the other reads its own."
        f" Asked was {decodes}"
    )


@pytest.mark.parametrize("waits", [False, True])
def test_task_7_slots_wait_for_tokens_only(waits: bool) -> None:
    story = simulate(items((24, 2)), Cost(per_launch=1, launch_waits=waits), prefill_step=8)
    chunks = [(event.time, event.tokens, event.position) for event in story.events if event.kind.name == "PREFILL_CHUNK"]
    expected = [(0, 8, 8), (1, 8, 16), (2, 8, 24)] if waits else [(0, 8, 8), (0, 8, 16), (0, 8, 24)]
    assert chunks == expected, (
        f"launching {'waits' if waits else 'returns at once, and nothing of a chunk that is not the last is read'}: the"
        f" chunks of a prompt of 24 tokens are launched at {chunks}"
    )
    assert story.times("FIRST_TOKEN") == {0: 4 if waits else 3}, (
        "three launches of a second each bring the first token, which is read in the iteration after; where launching waits,"
        f" that is after the next launch is computed, too. It came at {story.times('FIRST_TOKEN')}"
    )


def test_task_7_slots_launch_behind_what_is_not_computed_yet() -> None:
    story = simulate(items((16, 2), (1, 1, 1)), Cost(per_token=1), prefill_step=8)
    assert story.times("FINISHED") == {0: 17, 1: 18}, (
        "the first prompt's two chunks take 8 seconds each, and are launched at once; its second token and the other's prompt"
        f" are launched at 0 and 16, and computed after them. Finished at {story.times('FINISHED')}"
    )


# The same as the engine.


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("strategy", ["fifo", "shortest-remaining", "length-balance"])
@pytest.mark.parametrize(("slots", "prefill_step"), [(1, 64), (3, 7), (8, 16)])
def test_task_7_slots_decide_as_the_engine_does(toy: ToyModel, slots: int, prefill_step: int, strategy: str, seed: int) -> None:
    arrivals = random_items(seed)
    choice = answer.STRATEGIES[strategy]()
    choice.max_overtakes = 2
    priced = PricedModel(toy, dear())
    engine = answer.ContinuousBatchScheduler(
        priced, slots, max_seq_len=64, prefill_step=prefill_step, strategy=choice, clock=priced.clock
    )
    real = serve(engine, arrivals, priced)
    story = simulate(arrivals, dear(launch_waits=True), slots, prefill_step=prefill_step, strategy=choice)
    for ours, theirs in zip(story.states, real.states, strict=False):
        assert _seen(ours) == _seen(theirs), (
            f"iteration {theirs.step}: time, active, slots, queue and new tokens are {_seen(ours)}, and the engine says"
            f" {_seen(theirs)}"
        )
    for ours, theirs in zip(_by_iteration(story), _by_iteration(real), strict=False):
        assert ours == theirs, f"told was {ours}, and the engine tells {theirs}"
    assert len(story.states) == len(real.states), f"{len(story.states)} iterations, and the engine has {len(real.states)}"


def _seen(state: Any) -> tuple[Any, ...]:
    return (state.time, state.active_requests, state.max_slots, state.queue_size, state.new_tokens)


def _by_iteration(story: Story) -> list[list[tuple[Any, ...]]]:
    """What happened in each iteration, in whatever order: kind, request, tokens and position."""
    by_step: dict[int, list[tuple[Any, ...]]] = {}
    for event in story.events:
        by_step.setdefault(event.step, []).append((event.kind.name, event.request_id, event.tokens, event.position))
    return [[step, *sorted(told)] for step, told in sorted(by_step.items())]  # type: ignore[list-item]


def test_task_7_slots_ask_the_strategy_that_was_given() -> None:
    class Last(answer.Strategy):  # type: ignore[name-defined, misc]
        def ranking(self, running: Sequence[Any]) -> Any:
            return lambda request: -len(request.prompt)

    story = simulate(items((2, 2), (3, 2), (4, 2)), Cost(per_launch=1), slots=1, strategy=Last())
    order = sorted(story.times("ADMITTED"), key=story.times("ADMITTED").__getitem__)
    assert order == [2, 1, 0], f"this strategy admits the longest prompt first; admitted were {order}"


def test_task_7_slots_show_the_strategy_everyone_who_waits() -> None:
    arrivals = items(*[(2, 3)] * 199, (2, 1))
    story = simulate(arrivals, Cost(per_launch=1), slots=1, strategy=answer.ShortestRemaining())
    admitted = story.times("ADMITTED")
    assert min(admitted, key=admitted.__getitem__) == 199, (
        "200 requests are there from the start, and the last one is the shortest, so ShortestRemaining admits it first; the"
        f" first to be admitted was {min(admitted, key=admitted.__getitem__)}. The plan is made from all who wait"
    )


# Arrivals.


def test_task_7_slots_hear_of_a_request_between_two_iterations() -> None:
    story = simulate(items((1, 3), (1, 1, 0.5), (1, 1, 1), (1, 1, 1.5)), Cost(per_launch=1))
    assert story.times("ARRIVED") == {0: 0, 1: 1, 2: 1, 3: 2}, (
        "iterations end at seconds 0, 1, 2, …, and a request that comes in between is submitted at the next end;"
        f" they arrived at {story.times('ARRIVED')}"
    )
    assert story.wishes == [(0, 0.0), (1, 0.5), (2, 1.0), (3, 1.5)], (
        f"`wanted` is told when each client wanted its request, not when the engine heard of it: {story.wishes}"
    )


def test_task_7_slots_sleep_until_somebody_comes() -> None:
    story = simulate(items((1, 2, 5), (1, 2, 50)), Cost(per_launch=1))
    assert story.times("ADMITTED") == {0: 5, 1: 50}, f"there is no request before second 5: {story.times('ADMITTED')}"
    assert story.times("FINISHED") == {0: 7, 1: 52}, f"two launches of a second each: {story.times('FINISHED')}"
    assert len(story.states) == 6, f"three iterations each, and none while there is no request; there were {len(story.states)}"


def test_task_7_slots_without_requests() -> None:
    assert simulate([], Cost(per_launch=1)).states == [], "no request comes, so nothing happens"


@pytest.mark.parametrize("gap", [1.0, 16.0])
def test_task_7_slots_take_arrivals_one_by_one(gap: float) -> None:
    assert_taken_one_by_one(answer.simulate_slots, gap)


def test_task_7_slots_forget_requests_that_have_ended() -> None:
    assert_ended_are_forgotten(answer.simulate_slots)


def test_task_7_slots_keep_nothing_that_grows() -> None:
    assert_nothing_grows(answer.simulate_slots)


def test_task_7_slots_of_a_long_answer() -> None:
    story = simulate([WorkItem((250_000, 3), 700)], Cost(per_launch=1))
    assert sum(state.new_tokens for state in story.states) == 700, (
        "an answer goes on to its max_tokens, 700, and a prompt may hold any tokens: there is no model that would not know them"
    )


# What is refused.


@pytest.mark.parametrize(
    ("options", "named"), [({"max_batch_size": 0}, "0"), ({"prefill_step": 0}, "0"), ({"prefill_step": -3}, "-3")]
)
def test_task_7_slots_refuse_sizes_below_one(options: dict[str, int], named: str) -> None:
    sizes = {"max_batch_size": 2} | options
    with refuses(ValueError, f"a simulation with {sizes}", named):
        answer.simulate_slots(items((1, 1)), Cost(per_launch=1), **sizes)


@pytest.mark.parametrize("arrivals", [(2.0, 1.0), (-1.0,), (0.0, float("nan"))])
def test_task_7_slots_refuse_arrivals_that_do_not_ascend(arrivals: tuple[float, ...]) -> None:
    with refuses(ValueError, f"requests that arrive at {arrivals}, in this order"):
        simulate(items(*((1, 1, arrival) for arrival in arrivals)), Cost(per_launch=1))


def test_task_7_slots_refuse_an_empty_prompt() -> None:
    with refuses(ValueError, "a request with an empty prompt, which the engine refuses, too"):
        simulate(items((0, 4)), Cost(per_launch=1))
