"""Task 4, fourth part: cancel and failure. Requests come and go at any time."""

from typing import Any

import pytest

from answer import answer
from day6_engines import ask, ask_with_eos, assert_beginning, assert_can_still_serve, assert_failed, assert_returned, engine
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, finish_all, refuses, step_until


@pytest.mark.parametrize("state", ["waiting", "prefilling", "decoding", "finished"])
def test_task_4_failures_cancel(toy: ToyModel, state: str) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    neighbours = [scheduler.submit(ask(4, 20)), scheduler.submit(ask(4, 6, seed=1))]
    victim = scheduler.submit(ask(20, 8))
    step_until(scheduler, lambda: victim.state == state)
    kept = list(victim.generated_tokens)
    scheduler.cancel(victim)
    scheduler.cancel(victim)  # once more does no harm
    assert (victim.state, victim.generated_tokens) == ("finished", kept), "cancel ends it at once, with the tokens it has"
    assert victim.kv_cache is None, "a request that has ended holds no keys and values"
    assert victim.finish_reason == ("length" if state == "finished" else "cancelled"), "what has finished stays as it is"
    ended = finish_all(scheduler)
    assert victim.generated_tokens == kept == alone(toy, victim.prompt, 8)[: len(kept)], "no token comes after the end"
    assert ended.count(victim) == (0 if state == "finished" else 1), "step returns a request once: here, or before"
    assert_alone(toy, *neighbours)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_a_cancelled_request_makes_room_at_once(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=1)
    first, second = scheduler.submit(ask(4, 50)), scheduler.submit(ask(4, 5, seed=1))
    step_until(scheduler, lambda: len(first.generated_tokens) == 3)
    scheduler.cancel(first)
    model.calls.clear()
    finish_all(scheduler)
    assert_alone(toy, second)
    assert sum(model.decode_rows) <= 5 + 1, "the cancelled request's row must not be computed any more"


def test_task_4_failures_only_those_who_run_own_slots(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=4)

    def check(what: str) -> None:
        owners = dict(scheduler.slots.slot_of)
        assert set(owners) <= set(scheduler.running), (
            f"{what}: slots are owned by {set(owners)}, and {set(scheduler.running)} run: a request that has ended owns none,"
            " from that moment on"
        )
        for layer, cache in enumerate(scheduler.runner.caches):
            assert set(cache.lengths) == set(owners.values()), (
                f"{what}: layer {layer} holds the slots {set(cache.lengths)}, and {set(owners.values())} are owned"
            )

    def give_up(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            raise OSError("the client has gone")

    stops = ask_with_eos(toy, 5, 3, 20)
    for request in (ask(4, 30), ask(3, 30, 1, on_update=give_up), stops, ask(4, 6), ask(20, 30), ask(5, 30)):
        scheduler.submit(request)
    step_until(scheduler, lambda: stops.state == "decoding")
    for _ in range(12):
        scheduler.step()
        check("after a step in which a request may have ended")
    for request in list(scheduler.running.values()):
        scheduler.cancel(request)
        check("after a cancel between two iterations")


def test_task_4_failures_who_has_ended_is_returned_in_the_order_of_ends(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    first, second, third = (scheduler.submit(ask(4, 30, seed)) for seed in range(3))
    step_until(scheduler, lambda: len(third.generated_tokens) == 2)
    for request in (second, third, first):
        scheduler.cancel(request)
    assert scheduler.step() == [second, third, first], "step returns those who have ended in the order of their ends"


def test_task_4_failures_cancel_when_the_last_token_is_on_its_way(toy: ToyModel) -> None:
    for steps in range(1, 8):
        model = CountingModel(toy)
        scheduler = engine(model)
        request, other = scheduler.submit(ask(4, 3)), scheduler.submit(ask(5, 9))
        ended = [found for _ in range(steps) for found in scheduler.step()]
        scheduler.cancel(request)
        ended += finish_all(scheduler)
        assert_returned(ended, request, other)
        assert_beginning(toy, request)
        assert_alone(toy, other)
        assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_cancel_of_all(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    requests = [scheduler.submit(ask(length, 9)) for length in (4, 30, 5, 6)]
    for _ in range(3):
        scheduler.step()
    for request in requests:
        scheduler.cancel(request)
    finish_all(scheduler)
    assert [request.finish_reason for request in requests] == ["cancelled"] * 4, (
        "one waits, one is in the middle of its prompt, two decode: all can be cancelled"
    )
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_cancel_of_a_refused_request_harms_nobody(toy: ToyModel) -> None:
    scheduler = engine(toy)
    served, refused = scheduler.submit(ask(3, 5)), ask(100, 1)
    with refuses(ValueError, "submit, of a prompt that leaves no room"):
        scheduler.submit(refused)
    scheduler.cancel(refused)  # as a server does when its client has gone, whatever became of the request
    finish_all(scheduler)
    assert_alone(toy, served)


def test_task_4_failures_a_request_may_cancel_itself(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    updates: list[str] = []

    def enough(request: Any, new_text: str) -> None:
        updates.append(request.state)
        if len(request.generated_tokens) == 3:
            scheduler.cancel(request)

    quitter, other = scheduler.submit(ask(4, 20, on_update=enough)), scheduler.submit(ask(6, 12))
    ended = finish_all(scheduler)
    expect_no_error(quitter)
    assert (quitter.finish_reason, len(quitter.generated_tokens)) == ("cancelled", 3), (
        "it cancelled itself when it was told of its third token, and nothing comes after that"
    )
    assert updates[-1] == "finished", "on_update hears of the end"
    assert_returned(ended, quitter, other)
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_a_step_in_the_update_of_a_cancel_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def step(request: Any, new_text: str) -> None:
        if request.state == "finished":
            scheduler.step()

    stepper, other = scheduler.submit(ask(4, 30, on_update=step)), scheduler.submit(ask(6, 12))
    step_until(scheduler, lambda: len(stepper.generated_tokens) == 2)
    scheduler.cancel(stepper)
    ended = finish_all(scheduler)
    assert_failed(toy, stepper, RuntimeError, "it called step when it heard of its end, and its slot is not free yet then")
    assert_returned(ended, stepper, other)
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("killer", [0, 1])
def test_task_4_failures_a_request_may_cancel_another(toy: ToyModel, killer: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests: list[Any] = []

    def kill(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.cancel(requests[1 - killer])

    for row in range(2):
        requests.append(scheduler.submit(ask(4, 12, row, on_update=kill if row == killer else None)))
    requests.append(scheduler.submit(ask(7, 12)))
    ended = finish_all(scheduler)
    victim = requests[1 - killer]
    expect_no_error(*requests)
    assert victim.finish_reason == "cancelled", "its neighbour's on_update cancelled it, in the middle of an iteration"
    assert_beginning(toy, victim)
    assert_returned(ended, *requests)
    assert_alone(toy, requests[killer], requests[2])
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5])
def test_task_4_failures_cancelling_another_whose_last_token_is_there(toy: ToyModel, max_tokens: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    requests: list[Any] = []

    def kill(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.cancel(requests[1])

    requests.append(scheduler.submit(ask(4, 6, on_update=kill)))
    requests.append(scheduler.submit(ask(4, max_tokens, seed=1)))
    ended = finish_all(scheduler)
    assert_returned(ended, *requests)  # also one that is cancelled between its last step and its last token
    assert_beginning(toy, requests[1])
    assert len(scheduler.metrics.values("latency")) == 2, "the metrics hear of every end"
    assert_alone(toy, requests[0])
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_an_answer_may_lead_to_the_next_question(toy: ToyModel) -> None:
    scheduler = engine(toy)
    chain: list[Any] = []

    def next_question(request: Any, new_text: str) -> None:
        if request.state == "finished" and len(chain) < 5:
            chain.append(scheduler.submit(answer.Request(request.tokens[-6:], 4, on_update=next_question)))

    chain.append(scheduler.submit(ask(4, 4, on_update=next_question)))
    neighbour = scheduler.submit(ask(6, 25))
    finish_all(scheduler)
    assert len(chain) == 5, "submit works from within on_update, and run goes on until none is left"
    assert_alone(toy, neighbour, *chain)
