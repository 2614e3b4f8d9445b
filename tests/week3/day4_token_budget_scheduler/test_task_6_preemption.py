"""Week 3 Day 4, task 6: preemption. A request may lose its blocks at any moment, and never a token."""

from typing import Any

import pytest

from answer import answer
from day6_engines import assert_beginning, assert_returned, drawn_alone
from paged_engines import ask, ask_with_eos, assert_can_still_serve, assert_nothing_is_lost, engine, serve
from support import CountingModel, ToyModel, assert_alone, expect_no_error, finish_all, refuses, step_until


@pytest.mark.parametrize("steps", range(1, 10))
def test_task_6_preemption_at_any_step(toy: ToyModel, steps: int) -> None:
    served = engine(toy)
    victim, other = served.submit(ask(20, 6)), served.submit(ask(5, 12, seed=1))
    ended = [found for _ in range(steps) for found in served.step()]
    if victim.request_id in served.running:
        served.preempt(victim)
        assert (victim.state, victim.blocks, victim.offset) == ("waiting", [], 0), "it has lost its blocks, and it waits again"
        assert victim.request_id in served.waiting, "it waits again"
        assert victim.request_id not in served.running, "it runs no more"
        served.check_integrity()
    assert_returned(ended + serve(served), victim, other)
    assert_alone(toy, victim, other)


@pytest.mark.parametrize("every", [1, 2, 3, 5])
def test_task_6_preemption_again_and_again(toy: ToyModel, every: int) -> None:
    served = engine(toy)
    victim, other = served.submit(ask(6, 8)), served.submit(ask(5, 12, seed=1))
    steps = 0
    while served.has_work:
        served.step()
        steps += 1
        assert steps < 200, (
            "a preempted request keeps the token that was in flight for it, so even one that is preempted over and over gets on"
        )
        if victim.request_id in served.running and steps % every == 0 and victim.in_flight:
            served.preempt(victim)
            served.check_integrity()
    assert_alone(toy, victim, other)


def test_task_6_preemption_keeps_the_token_in_flight(toy: ToyModel) -> None:
    served = engine(toy)
    victim = served.submit(ask(6, 8))
    step_until(served, lambda: len(victim.generated_tokens) == 3)
    assert victim.in_flight == 1, "a step is launched ahead, and its token has not come back"
    served.preempt(victim)
    served.step()
    assert (len(victim.generated_tokens), victim.in_flight) == (4, 0), "the token comes back, and it is kept"
    assert victim.state == "waiting", (
        "it is not admitted while a token is in flight: what is to be computed again is not known yet"
    )
    serve(served)
    assert_alone(toy, victim)


@pytest.mark.parametrize("end", ["the last token", "an EOS", "the only token"])
def test_task_6_preemption_when_the_token_in_flight_ends_it(toy: ToyModel, end: str) -> None:
    served = engine(toy)
    ends = {"the last token": ask(6, 3), "an EOS": ask_with_eos(toy, 6, 2, 9), "the only token": ask(6, 1)}
    victim, other = served.submit(ends[end]), served.submit(ask(5, 9, seed=1))
    before_the_last = {"the last token": 2, "an EOS": 2, "the only token": 0}[end]
    step_until(served, lambda: victim.in_flight == 1 and len(victim.generated_tokens) == before_the_last)
    served.preempt(victim)
    ended = served.step()
    assert victim.state == "finished", f"{end} came back while it waited again, and that is its end"
    assert victim.request_id not in served.waiting, "a request that has ended does not wait"
    assert_returned(ended + serve(served), victim, other)
    assert_alone(toy, victim, other)


def test_task_6_preemption_and_a_cancel_before_the_token_is_back(toy: ToyModel) -> None:
    served = engine(toy)
    victim, other = served.submit(ask(6, 8)), served.submit(ask(5, 9, seed=1))
    step_until(served, lambda: len(victim.generated_tokens) == 3)
    served.preempt(victim)
    served.cancel(victim)
    served.check_integrity()
    assert_returned(serve(served), victim, other)
    assert (victim.finish_reason, len(victim.generated_tokens)) == ("cancelled", 3), "no token comes after the end"
    assert_beginning(toy, victim)
    assert_alone(toy, other)


def test_task_6_preemption_in_the_middle_of_a_prompt(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model)
    victim = served.submit(ask(30, 4))
    step_until(served, lambda: victim.offset == 24)
    served.preempt(victim)
    model.calls.clear()
    serve(served)
    assert sum(length for _, length in model.calls) == 30 + 3, "its blocks are gone, so the whole prompt is computed again"
    assert_alone(toy, victim)


def test_task_6_preemption_of_one_that_does_not_run(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    runs, waits, ended = served.submit(ask(6, 9)), ask(5, 3, seed=1), ask(4, 2, seed=2)
    served.step()
    served.submit(waits)
    served.submit(ended)
    served.cancel(ended)
    for request in (waits, ended, ask(3, 3)):
        with refuses(ValueError, f"preempt, of a request that is {request.state}"):
            served.preempt(request)
    serve(served)
    assert_alone(toy, runs, waits)
    assert served.metrics.num_preemptions == 0, "what was refused is no preemption"


WAYS: list[dict[str, Any]] = [
    {"temperature": 3.0, "seed": 1},
    {"repetition_penalty": 1.6},
    {"temperature": 2.0, "repetition_penalty": 1.4, "seed": 3},
    {"temperature": 4.0, "top_k": 5, "top_p": 0.9, "seed": 2},
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("prefix_caching", [False, True])
def test_task_6_preemption_and_sampling(toy: ToyModel, way: dict[str, Any], prefix_caching: bool) -> None:
    served = engine(toy, prefix_caching=prefix_caching)
    request = served.submit(ask(6, 14, sampling=answer.SamplingParams(**way)))
    neighbour = served.submit(ask(4, 14, seed=1))
    for tokens in (1, 2, 6, 7, 11):
        step_until(served, lambda: request.request_id in served.running and len(request.generated_tokens) >= tokens)  # noqa: B023
        served.preempt(request)
    serve(served)
    expect_no_error(request)
    assert request.generated_tokens == drawn_alone(toy, request, 14), (
        f"{request.sampling}: the key of a draw follows from seed and position, and what a penalty has seen from the tokens, so"
        " neither is lost with the blocks"
    )
    assert_alone(toy, neighbour)


# By the plan.


def test_task_6_preemption_where_blocks_are_short(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=8, prefix_caching=False, watermark=0)
    requests = [served.submit(ask(6, 20, seed)) for seed in range(3)]
    first = requests[0]
    after_first: list[int] = []

    def look() -> None:
        served.check_integrity()
        if first.state != "finished":
            assert first.preemptions == 0, "the youngest is the victim: the one that has run longest gets on"
            after_first.append(len(first.generated_tokens))

    finish_all(served, after_step=look)
    assert_alone(toy, *requests)
    assert after_first == list(range(len(after_first))), "the oldest gets a token in every step, whatever happens to others"
    assert served.metrics.num_preemptions >= 2, "8 blocks of 4 are too few for three requests of 26 tokens"
    assert served.metrics.num_preemptions == sum(request.preemptions for request in requests), "each is counted, once"
    assert_can_still_serve(served, toy)


def test_task_6_preemption_costs_no_more_than_it_must(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=9, watermark=0, prefix_caching=False)
    first, second, third = (served.submit(ask(8, 12, seed)) for seed in range(3))
    step_until(served, lambda: served.metrics.num_preemptions > 0)
    assert (first.preemptions, second.preemptions, third.preemptions) == (0, 0, 1), (
        "one block was wanted, and the third gave back three: the second need not go"
    )
    serve(served)
    assert_alone(toy, first, second, third)


def test_task_6_preemption_gives_back_what_the_cache_does_not_know(toy: ToyModel) -> None:
    served = engine(toy)
    victim = served.submit(ask(10, 9))
    step_until(served, lambda: len(victim.generated_tokens) == 3)
    served.preempt(victim)
    assert_nothing_is_lost(served)
    served.step()
    served.step()
    assert victim.cached == 12, (
        "of its 14 known tokens 12 fill three blocks, and all were computed and had come back: the prefix cache has them still"
    )
    serve(served)
    assert_alone(toy, victim)


def test_task_6_preemption_is_tried_in_a_pool_of_the_least_size(toy: ToyModel) -> None:
    for extra in (0, 1, 2):
        served = engine(toy, num_blocks=6 + extra, max_num_seqs=5)
        requests = [ask(4 + 3 * i, 21 - 3 * i, i) for i in range(5)]  # each computes 24 tokens
        assert_returned(serve(served, *requests), *requests)
        assert_alone(toy, *requests)
