"""Week 3 Day 4, task 6: what goes wrong stays with the requests that it concerns, and the engine is whole afterwards."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import (
    ENDS,
    UnreadableModel,
    ask_to_end,
    assert_beginning,
    assert_failed,
    assert_returned,
    nothing_gets_out,
    only_reading_fails,
)
from paged_engines import ask, ask_with_eos, assert_can_still_serve, engine, serve
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    assert_alone,
    finish_all,
    make_prompt,
    refuses,
    step_until,
)


def end_all(served: Any) -> list[Any]:
    """To the end, whatever fails on the way."""
    __tracebackhide__ = True
    with nothing_gets_out():
        return serve(served)


def get_going(served: Any) -> tuple[list[Any], Any, Any]:
    """Two who decode, one in the middle of its prompt, and one that is preempted while a token is in flight for it."""
    decoding = [served.submit(ask(4, 30)), served.submit(ask(7, 30, seed=1))]
    victim = served.submit(ask(5, 12, seed=2))
    step_until(served, lambda: len(victim.generated_tokens) == 2)
    reader = served.submit(ask(50, 5, seed=3))
    step_until(served, lambda: 0 < reader.offset < 50)
    served.preempt(victim)
    assert victim.in_flight == 1, "a step is launched ahead, so a token is in flight for each that decodes"
    return decoding, reader, victim


# A client.


@pytest.mark.parametrize("position", [1, 2, 12])
def test_task_6_failures_of_an_on_update_end_its_request_only(toy: ToyModel, position: int) -> None:
    served = engine(toy)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise error

    others = [ask(3, 12), ask(9, 12)]
    failing = ask(5, 12, on_update=fail)
    for request in (others[0], failing, others[1]):
        served.submit(request)
    assert_returned(end_all(served), failing, *others)
    assert_failed(toy, failing, error, "its on_update raised")
    assert_alone(toy, *others)
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("end", ENDS)
def test_task_6_failures_of_a_last_update(toy: ToyModel, end: str) -> None:
    served = engine(toy)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if request.state == "finished":
            raise error

    failing = ask_to_end(toy, end, ask, ask_with_eos, on_update=fail)
    others = [ask(3, 12), ask(9, 12)]
    for request in (others[0], failing, others[1]):
        served.submit(request)
    assert_returned(end_all(served), failing, *others)
    assert_failed(toy, failing, error, f"its on_update raised when it heard of its end by {end}")
    assert_alone(toy, *others)
    assert_can_still_serve(served, toy)


def test_task_6_failures_while_somebody_hears_of_a_late_token(toy: ToyModel) -> None:
    served = engine(toy)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 4:
            raise error

    victim, other = served.submit(ask(6, 9, on_update=fail)), served.submit(ask(5, 9, seed=1))
    step_until(served, lambda: len(victim.generated_tokens) == 3)
    served.preempt(victim)
    assert_returned(end_all(served), victim, other)
    assert_failed(toy, victim, error, "its on_update raised at a token that came back while it waited again")
    assert_alone(toy, other)
    assert_can_still_serve(served, toy)


# The model.


@pytest.mark.parametrize("late", [False, True])
def test_task_6_failures_of_the_model_end_all_of_that_call(toy: ToyModel, late: bool) -> None:
    broken = False
    served = engine(FragileModel(toy, lambda tokens: broken, late))
    decoding, reader, victim = get_going(served)
    waiting = served.submit(ask(6, 6, seed=4))
    broken = True
    with nothing_gets_out():
        ended = served.step()
    broken = False
    served.check_integrity()
    assert_returned(ended + end_all(served), *decoding, reader, victim, waiting)
    for request in (*decoding, reader):
        assert_failed(toy, request, BrokenModelError, "the model raised in a call that this request was part of")
    assert_alone(toy, victim, waiting)  # one had been preempted, the other had to wait: that call was not theirs
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("late", [False, True])
def test_task_6_failures_of_a_call_leave_those_who_had_no_part_in_it(toy: ToyModel, late: bool) -> None:
    broken = False
    served = engine(FragileModel(toy, lambda tokens: broken, late))
    ending, decoding = served.submit(ask(3, 5)), served.submit(ask(4, 30, seed=1))
    step_until(served, lambda: ending.all_launched)
    broken = True
    with nothing_gets_out():
        served.step()
    broken = False
    end_all(served)
    assert_failed(toy, decoding, BrokenModelError, "the model raised in a call that this request was part of")
    assert_alone(toy, ending)  # its last token was on its way already
    assert_can_still_serve(served, toy)


def test_task_6_failures_of_an_admission(toy: ToyModel) -> None:
    broken = False
    served = engine(FragileModel(toy, lambda tokens: broken, late=True))
    serve(served, ask(12, 4))
    newcomer = served.submit(ask(12, 9))
    broken = True
    with nothing_gets_out():
        ended = served.step()
    broken = False
    served.check_integrity()
    assert_failed(toy, newcomer, BrokenModelError, "the model raised in a call that this request was part of")
    again = ask(12, 9)
    served.submit(again)
    assert_returned(ended + end_all(served), newcomer, again)
    assert_alone(toy, again)


def test_task_6_failures_of_a_sampler(toy: ToyModel) -> None:
    class Broken:
        greedy = False

        def __call__(self, logits: Any, tokens: Any) -> Any:
            raise BrokenModelError("this sampler fails, as this test wants it to")

    served = engine(toy, max_num_seqs=2)
    victim, beside, waiting = (served.submit(ask(4, 9, seed)) for seed in range(3))
    step_until(served, lambda: len(victim.generated_tokens) == 2)
    victim.sampler = Broken()
    assert_returned(end_all(served), victim, beside, waiting)
    for request in (victim, beside):
        assert_failed(toy, request, BrokenModelError, "one row's sampler raised, and the rows of a step are drawn together")
    assert_alone(toy, waiting)
    assert_can_still_serve(served, toy)


# The device.


@pytest.mark.parametrize("inner", [False, True])
def test_task_6_failures_of_the_device_when_tokens_are_read(toy: ToyModel, inner: bool) -> None:
    unreadable = UnreadableModel(toy, inner)
    served = engine(unreadable)
    decoding, reader, victim = get_going(served)
    waiting = [served.submit(ask(5, 6, seed)) for seed in range(4, 8)]
    with nothing_gets_out(), only_reading_fails():
        unreadable.broken = True
        ended = served.step()
        unreadable.broken = False
        ended += served.step()
    for request in (*decoding, reader):
        assert_failed(toy, request, Exception, "it ran when the device failed")
    served.check_integrity()
    assert_returned(ended + end_all(served), *decoding, reader, victim, *waiting)
    assert_alone(toy, victim, *waiting)
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("inner", [False, True])
def test_task_6_failures_of_the_device_when_it_is_set_to_work(toy: ToyModel, inner: bool) -> None:
    unreadable = UnreadableModel(toy, inner)
    served = engine(unreadable)
    decoding, reader, victim = get_going(served)
    waiting = served.submit(ask(5, 6, seed=4))
    with nothing_gets_out():
        unreadable.broken = True
        ended = served.step()
        unreadable.broken = False
        ended += served.step()
    for request in (*decoding, reader):
        assert_failed(toy, request, Exception, "what was asked of the device for it can never be computed")
    assert_returned(ended + end_all(served), *decoding, reader, victim, waiting)
    assert_alone(toy, victim, waiting)  # a token that was lost on its way is computed again
    assert_can_still_serve(served, toy)


def test_task_6_failures_of_the_device_in_a_step_without_a_token(toy: ToyModel) -> None:
    unreadable = UnreadableModel(toy, inner=True)
    served = engine(unreadable)
    reader = served.submit(ask(40, 5))
    with nothing_gets_out():
        unreadable.broken = True
        ended = served.step()
        unreadable.broken = False
        ended += served.step()
    assert_failed(toy, reader, Exception, "its first chunk can never be computed, though no token was asked for")
    assert_returned(ended + end_all(served), reader)
    assert_can_still_serve(served, toy)


def test_task_6_failures_of_the_device_when_a_block_is_copied(toy: ToyModel) -> None:
    unreadable = UnreadableModel(toy, inner=True)
    served = engine(unreadable)
    serve(served, ask(12, 4))
    running = served.submit(ask(5, 20, seed=1))
    step_until(served, lambda: len(running.generated_tokens) == 2)
    with nothing_gets_out(), only_reading_fails():
        unreadable.broken = True
        ended = served.step()
        unreadable.broken = False
        newcomer = served.submit(ask(12, 9))  # all of its prompt is cached, so the last block is copied
        ended += served.step()
    served.check_integrity()
    assert_failed(toy, running, Exception, "it ran when the device failed, and a copy of a block was the first to hear of it")
    waiting = served.submit(ask(7, 6, seed=2))
    assert_returned(ended + end_all(served), running, newcomer, waiting)
    assert_alone(toy, waiting)
    assert_can_still_serve(served, toy)


def test_task_6_failures_of_the_device_leave_nothing_in_the_prefix_cache(toy: ToyModel) -> None:
    unreadable = UnreadableModel(toy, inner=True)
    served = engine(unreadable)
    serve(served, ask(12, 4))
    failing = served.submit(ask(20, 9, seed=1))
    unreadable.broken = True
    with nothing_gets_out():
        served.step()
    unreadable.broken = False
    assert_failed(toy, failing, Exception, "what was asked of the device for it can never be computed")
    again = ask(12, 4)
    end_all(served)
    before = served.metrics.prefix_cache_hits
    serve(served, again)
    assert served.metrics.prefix_cache_hits == before, "the memory was made again, so what the prefix cache knew of it is gone"
    assert_alone(toy, again)


# Logits that say nothing.


@pytest.mark.parametrize("victim_first", [False, True])
@pytest.mark.parametrize("place", [0, 5, 13])
def test_task_6_failures_nan_ends_one_request(toy: ToyModel, place: int, victim_first: bool) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    served = engine(sick, num_blocks=16)
    prompt = make_prompt(14)
    prompt[place] = POISON
    neighbour, victim = ask(4, 30), answer.PagedRequest(prompt, 10)
    for request in (victim, neighbour) if victim_first else (neighbour, victim):
        served.submit(request)
    successors = [served.submit(ask(length, 9, length)) for length in (1, 6, 20, 33)]
    assert_returned(end_all(served), neighbour, victim, *successors)
    assert victim.generated_tokens == [], "NaN is no token, not even token 0"
    assert_failed(toy, victim, FloatingPointError, "its logits were NaN")
    assert_alone(toy, neighbour, *successors)


def test_task_6_failures_infinite_logits_are_an_error(toy: ToyModel) -> None:
    sick = ToyModel()
    served = engine(sick)
    request = served.submit(ask(4, 9))
    step_until(served, lambda: len(request.generated_tokens) == 2)
    sick.only_printable = mx.full(sick.only_printable.shape, -mx.inf)
    end_all(served)
    assert_failed(toy, request, FloatingPointError, "all its logits were -inf, which rules out all tokens")
    sick.only_printable = toy.only_printable
    after = served.submit(ask(7, 9))
    end_all(served)
    assert_alone(toy, after)


def test_task_6_failures_nan_of_a_row_that_nobody_needs(toy: ToyModel) -> None:
    sick = ToyModel()
    served = engine(sick)
    request = served.submit(ask_with_eos(toy, 6, 3, 20))
    step_until(served, lambda: len(request.generated_tokens) == 2)
    served.step()  # it reads the third token, and has launched the EOS and the token after it
    healthy = sick.only_printable
    sick.only_printable = mx.full(healthy.shape, mx.nan)
    with nothing_gets_out():
        finish_all(served)
    sick.only_printable = healthy
    assert request.finish_reason in ("stop", "error"), f"it ended with {request.finish_reason!r}"
    if request.finish_reason == "stop":
        assert_alone(toy, request)
    assert_can_still_serve(served, sick)


@pytest.mark.parametrize("moment", ["cancelled", "preempted"])
def test_task_6_failures_nan_of_one_that_runs_no_more(toy: ToyModel, moment: str) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    served = engine(sick)
    neighbour = served.submit(ask(4, 30))
    victim = served.submit(answer.PagedRequest([*make_prompt(5), POISON], 10))
    step_until(served, lambda: victim.in_flight == 1)
    served.cancel(victim) if moment == "cancelled" else served.preempt(victim)
    successors = [served.submit(ask(length, 6, length)) for length in (6, 9)]
    end_all(served)
    if moment == "cancelled":
        assert (victim.finish_reason, victim.error) == ("cancelled", None), "it had been cancelled before its NaN came back"
    else:
        assert_failed(toy, victim, FloatingPointError, "the token that was in flight for it came from NaN")
    assert_alone(toy, neighbour, *successors)


# What interrupts a step.


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that code which catches those does not stop it."""


@pytest.mark.parametrize("late", [False, True])
def test_task_6_failures_an_interrupted_step(toy: ToyModel, late: bool) -> None:
    armed = False

    class Interrupted(FragileModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            try:
                return super().__call__(*args, **kwargs)
            except BrokenModelError:
                raise Interruption from None

    served = engine(Interrupted(toy, lambda tokens: armed, late))
    decoding, reader, victim = get_going(served)
    waiting = [served.submit(ask(5, 6, seed)) for seed in range(4, 7)]
    armed = True
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        served.step()
    armed = False
    served.check_integrity()
    for request in (*decoding, reader):
        assert_failed(toy, request, Interruption, "it ran when the step was interrupted")
    assert_returned(end_all(served), *decoding, reader, victim, *waiting)
    assert_alone(toy, victim, *waiting)
    assert_can_still_serve(served, toy)


def test_task_6_failures_interrupted_once_more(toy: ToyModel) -> None:
    """The engine looks at its clock when it ends a request: the second Ctrl-C comes while those who run are being ended."""
    interrupts = 0

    def clock() -> float:
        nonlocal interrupts
        if interrupts:
            interrupts -= 1
            raise Interruption
        return 0.0

    class Interrupted(CountingModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            if interrupts:
                raise Interruption
            return super().__call__(*args, **kwargs)

    served = engine(Interrupted(toy), clock=clock)
    decoding, reader, victim = get_going(served)
    interrupts = 2  # one that the look at deadlines meets, or else the model, and another one after it
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        served.step()
    interrupts = 0
    served.check_integrity()
    assert_returned(end_all(served), *decoding, reader, victim)
    for request in (*decoding, reader):
        assert_failed(toy, request, Interruption, "it ran when the step was interrupted, and then the ending was")
    assert_alone(toy, victim)
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("position", [1, 3, 9])
def test_task_6_failures_an_interrupted_update(toy: ToyModel, position: int) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise Interruption

    served = engine(toy)
    requests = [served.submit(ask(4, 9, on_update=interrupt)), served.submit(ask(3, 30, seed=1))]
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        finish_all(served)
    served.check_integrity()
    assert_returned(end_all(served), *requests)
    assert_beginning(toy, requests[0])
    assert_failed(toy, requests[1], Interruption, "it ran when the step was interrupted")
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("name", ["preempt", "release"])
def test_task_6_failures_an_interrupt_between_two_changes(toy: ToyModel, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A signal comes when blocks are about to be given back: the request that they belong to is in the middle of a change."""
    armed = False
    given = answer.PagedRequest.let_go

    def interrupted(request: Any) -> list[int]:
        nonlocal armed
        if armed:
            armed = False
            raise Interruption
        return list(given(request))

    monkeypatch.setattr(answer.PagedRequest, "let_go", interrupted)
    served = engine(toy, num_blocks=9, watermark=0, prefix_caching=False)
    requests: list[Any] = [served.submit(ask(8, 12 if name == "preempt" else 3, seed)) for seed in range(3)]
    step_until(served, lambda: requests[0].offset > 8)
    armed = True
    with suppress(Interruption):
        finish_all(served)
    served.check_integrity()
    end_all(served)
    for request in requests:
        assert request.state == "finished", (
            f"request {request.request_id} was in the middle of a change when the step was interrupted, and has got lost: it is"
            f" {request.state}, and neither waits nor runs"
        )
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("done", ["nothing", "half"])
@pytest.mark.parametrize("change", ["__setitem__", "__delitem__"])
def test_task_6_failures_an_interrupt_while_the_queue_changes(
    toy: ToyModel, monkeypatch: pytest.MonkeyPatch, change: str, done: str
) -> None:
    """A signal comes when a preempted request is about to wait again, or a waiting one has just been chosen."""
    armed = False
    given = getattr(answer.FairQueue, change)

    def interrupted(queue: Any, request_id: int, *request: Any) -> None:
        nonlocal armed
        if not armed:
            given(queue, request_id, *request)
            return
        armed = False
        if done == "half" and request:
            queue.data[request_id] = request[0]
        elif done == "half":
            del queue.data[request_id]
        raise Interruption

    monkeypatch.setattr(answer.FairQueue, change, interrupted)
    served = engine(toy, num_blocks=9, watermark=0, prefix_caching=False)
    requests = [served.submit(ask(8, 12, seed)) for seed in range(3)]
    if change == "__setitem__":
        step_until(served, lambda: requests[0].offset > 8)
    armed = True
    with suppress(Interruption):
        finish_all(served)
    served.check_integrity()
    end_all(served)
    for request in requests:
        assert request.state == "finished", (
            f"request {request.request_id} was about to {'wait again' if change == '__setitem__' else 'run'} when the step was"
            f" interrupted, and has got lost: it is {request.state}, and neither waits nor runs"
        )
    assert_can_still_serve(served, toy)


def test_task_6_failures_of_a_plan_are_not_silent(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    served = engine(toy)
    running = served.submit(ask(4, 30))
    step_until(served, lambda: len(running.generated_tokens) == 2)
    waiting = served.submit(ask(5, 6))
    error = ZeroDivisionError("the mean length of no requests")
    given = served.scheduler.plan

    def fail(*args: Any) -> Any:
        raise error

    served.scheduler.plan = fail
    with refuses(ZeroDivisionError, "step lets through what goes wrong in its plan"):
        served.step()
    served.scheduler.plan = given
    assert_failed(toy, running, error, "it ran when the step was interrupted")
    assert (waiting.state, list(served.waiting)) == ("waiting", [waiting.request_id]), "the waiting request is still there"
    assert_returned(end_all(served), running, waiting)
    assert_alone(toy, waiting)


# Which calls are allowed.


def test_task_6_failures_a_step_within_a_step_is_refused(toy: ToyModel) -> None:
    served = engine(toy)

    def step(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            served.step()

    stepper, other = served.submit(ask(4, 9, on_update=step)), served.submit(ask(6, 12))
    assert_returned(end_all(served), stepper, other)
    assert_failed(toy, stepper, RuntimeError, "step refuses to run in the middle of a step: its on_update has failed")
    assert_alone(toy, other)
    assert_can_still_serve(served, toy)


def test_task_6_failures_a_second_thread_is_refused(toy: ToyModel) -> None:
    served = engine(toy)
    request = served.submit(ask(4, 9))
    served.step()
    newcomer = ask(3, 5)
    calls: Sequence[tuple[str, Any]] = [
        ("step", served.step),
        ("submit", lambda: served.submit(newcomer)),
        ("cancel", lambda: served.cancel(request)),
    ]
    with ThreadPoolExecutor(1) as thread:
        for name, call in calls:
            with refuses(RuntimeError, f"{name}, in another thread than the engine's"):
                thread.submit(call).result()
    assert (newcomer.state, newcomer.request_id in served.waiting) == ("waiting", False), "what is refused does nothing"
    assert_returned(end_all(served), request)
    assert_alone(toy, request)


def test_task_6_failures_a_cancel_by_all_sides(toy: ToyModel) -> None:
    """Each request's on_update cancels all of them, also when it hears of its end."""
    served = engine(toy)
    requests: list[Any] = []

    def cancel_all(request: Any, new_text: str) -> None:
        if len(requests[0].generated_tokens) >= 2:
            for other in requests:
                served.cancel(other)

    requests += [ask(length, 12, length, on_update=cancel_all) for length in (4, 30, 5, 6, 7)]
    for request in requests:
        served.submit(request)
    assert_returned(end_all(served), *requests)
    for request in requests:
        assert request.finish_reason == "cancelled", f"all were cancelled, and it ended with {request.finish_reason!r}"
        assert_beginning(toy, request)
    assert_can_still_serve(served, toy)
