"""Week 3 Day 5, task 5: a bad drafter and a bad step concern those who were part of it, and the engine is whole afterwards."""

import gc
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import UnreadableModel, assert_failed, assert_returned, nothing_gets_out, only_reading_fails
from paged_engines import ask, ask_with_eos, assert_can_still_serve, assert_nothing_is_lost, serve
from speculating import ADVERSARY, ORACLE, Knowing, Scripted, engine, engine_knowing, sequence_of
from support import BrokenModelError, FragileModel, ToyModel, assert_alone, finish_all, refuses, step_until
from tiny_llm_kit.models.tiny_random import tiny_config

# Drafters.


class DrafterGone(Exception):
    """What a failing drafter raises."""


def raise_gone(*_: Any) -> list[int]:
    raise DrafterGone


BAD: dict[str, tuple[Callable[[Sequence[int], int], list[int]], type[Exception]]] = {
    "raises": (raise_gone, DrafterGone),
    "proposes more than it was asked for": (lambda tokens, count: [65] * (count + 1), ValueError),
    "proposes a token that the model does not know": (lambda tokens, count: [65, 100_000], ValueError),
    "proposes the number of the model's tokens, which end one below": (
        lambda tokens, count: [tiny_config().vocab_size],
        ValueError,
    ),
    "proposes a negative token": (lambda tokens, count: [-1], ValueError),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("when", [0, 3])
def test_task_5_failures_of_a_drafter_end_its_request_only(toy: ToyModel, what: str, when: int) -> None:
    says, error = BAD[what]
    older, failing, younger = (ask(5 + seed, 20, seed) for seed in range(3))
    sequences = [sequence_of(toy, request) for request in (older, younger)]

    def propose(tokens: Sequence[int], count: int) -> list[int]:
        if list(tokens[:6]) != failing.prompt:
            return Knowing(sequences, 2).propose(tokens, count)
        return says(tokens, count) if len(tokens) >= 7 + when else []

    served = engine(toy, lambda: Scripted(propose))
    for request in (older, failing, younger):
        served.submit(request)
    with nothing_gets_out():
        assert_returned(serve(served), failing, younger, older)
    assert_failed(toy, failing, error, f"its drafter {what}")
    assert len(failing.generated_tokens) == 1 + when, "it keeps what it was given before its drafter failed"
    assert_alone(toy, older, younger)


def test_task_5_failures_of_who_makes_drafters(toy: ToyModel) -> None:
    made = []

    def make() -> Any:
        made.append(True)
        if len(made) == 2:
            raise DrafterGone
        return Knowing([])

    requests = [ask(5, 9), ask(6, 9, 1), ask(7, 9, 2)]
    served = engine(toy, make)
    for request in requests:
        served.submit(request)
    with nothing_gets_out():
        serve(served)
    assert_failed(toy, requests[1], DrafterGone, "there is no drafter for it")
    assert_alone(toy, requests[0], requests[2])


def test_task_5_failures_of_the_only_drafter(toy: ToyModel) -> None:
    failing, served = ask(5, 20), engine(toy, lambda: Scripted(raise_gone))
    with nothing_gets_out():
        assert_returned(serve(served, failing), failing)
    assert_failed(toy, failing, DrafterGone, "its drafter raises")


def test_task_5_failures_by_interrupt_in_a_drafter(toy: ToyModel) -> None:
    pressed = True

    def interrupt(tokens: Sequence[int], count: int) -> list[int]:
        if pressed:
            raise KeyboardInterrupt
        return []

    requests, waiting = [ask(5, 9), ask(6, 9, 1)], ask(7, 9, 2)
    served = engine(toy, lambda: Scripted(interrupt), max_num_seqs=2)
    for request in (*requests, waiting):
        served.submit(request)
    step_until(served, lambda: all(request.generated_tokens for request in requests), steps=1)
    with refuses(KeyboardInterrupt, "a Ctrl-C in a drafter goes through `step`, as it would anywhere else"):
        served.step()
    served.check_integrity()
    pressed = False
    serve(served)
    for request in requests:
        assert_failed(toy, request, KeyboardInterrupt, "the step that it was part of was interrupted")
    assert_alone(toy, waiting)


@pytest.mark.parametrize("end", ["length", "stop", "cancel", "preempt", "failure"])
def test_task_5_failures_and_other_ends_leave_no_drafter(toy: ToyModel, end: str) -> None:
    request = ask_with_eos(toy, 5, 6, 12) if end == "stop" else ask(5, 12)
    broken = False
    made: list[weakref.ref[Knowing]] = []

    def make() -> Knowing:
        drafter = Knowing([], ADVERSARY)
        made.append(weakref.ref(drafter))
        return drafter

    served = engine(FragileModel(toy, lambda tokens: broken), make)
    served.submit(request)
    step_until(served, lambda: len(request.generated_tokens) == 3)
    assert len(made) == 1
    assert made[0]() is not None, "a request that runs keeps its drafter"
    if end == "cancel":
        served.cancel(request)
    elif end == "preempt":
        served.preempt(request)
    elif end == "failure":
        broken = True
        with nothing_gets_out():
            served.step()
        broken = False
    else:
        serve(served)
    gc.collect()
    assert made[0]() is None, (
        f"something still holds the drafter of a request that runs no more ({end}): a server would fill up"
    )
    served.check_integrity()
    serve(served)


# The model.


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("right", [ORACLE, ADVERSARY])
def test_task_5_failures_of_the_model_end_all_of_that_call(toy: ToyModel, right: int, late: bool) -> None:
    broken = False
    requests, waiting = [ask(5, 20), ask(6, 20, 1)], ask(7, 9, 2)
    served, _ = engine_knowing(toy, [*requests, waiting], right, FragileModel(toy, lambda tokens: broken, late), max_num_seqs=2)
    for request in (*requests, waiting):
        served.submit(request)
    step_until(served, lambda: len(requests[1].generated_tokens) >= 2)
    broken = True
    with nothing_gets_out():
        ended = served.step()
    broken = False
    served.check_integrity()
    assert_returned(ended, *requests)
    for request in requests:
        assert_failed(toy, request, BrokenModelError, "the model raised in a call that this request was part of")
    serve(served)
    assert_alone(toy, waiting)
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("reading", [False, True])
def test_task_5_failures_of_the_device(toy: ToyModel, inner: bool, reading: bool) -> None:
    model = UnreadableModel(toy, inner)
    requests, waiting = [ask(5, 20), ask(6, 20, 1)], ask(7, 9, 2)
    served, _ = engine_knowing(toy, [*requests, waiting], 2, model, max_num_seqs=2)
    for request in (*requests, waiting):
        served.submit(request)
    step_until(served, lambda: len(requests[1].generated_tokens) >= 2)
    model.broken = True
    with nothing_gets_out():
        if reading:
            with only_reading_fails():
                served.step()
        else:
            served.step()
    model.broken = False
    served.check_integrity()
    for request in requests:
        assert request.finish_reason == "error", "what the device was asked for can't be computed, and these had a part in it"
    serve(served)
    assert_alone(toy, waiting)
    assert_can_still_serve(served, toy)


def test_task_5_failures_of_the_device_in_a_step_without_a_token(toy: ToyModel) -> None:
    model = UnreadableModel(toy, inner=True)
    reader = ask(50, 5)
    served, _ = engine_knowing(toy, [], model=model)
    served.submit(reader)
    model.broken = True
    with nothing_gets_out():
        served.step()
    model.broken = False
    assert reader.finish_reason == "error", (
        "the first chunk of a prompt can't be computed, and the step that launched it has ended: the device is set to work in"
        " each step, also if no request gets a token"
    )
    served.check_integrity()
    assert_can_still_serve(served, toy)


# NaN.


class HoleyModel:
    """The logits of the places from `first` on, counted over the wanted ones of a call, are NaN while `holes` is true."""

    def __init__(self, model: Any, first: int) -> None:
        self.model, self.config = model, model.config
        self.first = first
        self.holes = False

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        logits = self.model(*args, **kwargs)
        nan = mx.arange(logits.shape[1])[:, None] >= self.first
        return mx.where(nan, mx.nan, logits) if self.holes else logits


@pytest.mark.parametrize("first", [0, 1, 3, 4])
def test_task_5_failures_by_nan_at_a_place_that_is_used(toy: ToyModel, first: int) -> None:
    request = ask(5, 20)
    model = HoleyModel(toy, first)
    served, _ = engine_knowing(toy, [request], ORACLE, model)
    served.submit(request)
    step_until(served, lambda: bool(request.generated_tokens), steps=1)
    model.holes = True
    with nothing_gets_out():
        served.step()
    model.holes = False
    assert_failed(toy, request, FloatingPointError, f"the logits after right draft number {first} are NaN")
    assert len(request.generated_tokens) == 1 + first, "the tokens before it are its own"
    finish_all(served)
    served.check_integrity()
    assert_can_still_serve(served, toy)


@pytest.mark.parametrize("right", [0, 1, 3])
def test_task_5_failures_by_nan_behind_a_wrong_draft_are_none(toy: ToyModel, right: int) -> None:
    request, other = ask(5, 20), ask(6, 20, 1)
    model = HoleyModel(toy, right + 1)
    served, _ = engine_knowing(toy, [request], right, model)
    served.submit(request)
    step_until(served, lambda: bool(request.generated_tokens), steps=1)
    model.holes = True
    with nothing_gets_out():
        served.step()
    model.holes = False
    served.check_integrity()
    assert request.finish_reason is None, f"only logits after a wrong draft were NaN, and it ended with {request.error!r}"
    assert len(request.generated_tokens) == 2 + right
    serve(served, other)
    assert_alone(toy, request, other)


def test_task_5_failures_by_nan_behind_an_eos_are_none(toy: ToyModel) -> None:
    request = ask_with_eos(toy, 5, 2, 20)
    model = HoleyModel(toy, 2)
    served, _ = engine_knowing(toy, [request], ORACLE, model)
    served.submit(request)
    step_until(served, lambda: bool(request.generated_tokens), steps=1)
    model.holes = True
    with nothing_gets_out():
        serve(served)
    assert_alone(toy, request)


# Integrity.


def test_task_5_failures_of_integrity_are_seen(toy: ToyModel) -> None:
    request = ask(5, 20)
    served, _ = engine_knowing(toy, [request], ADVERSARY)
    served.submit(request)
    step_until(served, lambda: len(request.generated_tokens) == 3)
    served.check_integrity()
    request.blocks += served.pool.allocate(1)
    with refuses(RuntimeError, "check_integrity, when a request holds a block more than its tokens need"):
        served.check_integrity()


def test_task_5_failures_of_integrity_of_the_pool_are_seen(toy: ToyModel) -> None:
    served, _ = engine_knowing(toy, [ask(5, 20)])
    serve(served, ask(5, 9))
    assert_nothing_is_lost(served)
    served.pool.allocate(1)
    with refuses(
        RuntimeError, "check_integrity, when nothing holds a block that is not free: what Engine's sees, this one sees"
    ):
        served.check_integrity()


def test_task_5_failures_of_a_request_that_is_too_large(toy: ToyModel) -> None:
    served = answer.SpeculativeEngine(toy, num_blocks=4, block_size=4)
    with refuses(ValueError, "submit, of a request that needs more blocks than there are", named="4"):
        served.submit(ask(10, 10))


def test_task_5_failures_the_first_and_the_last_token_may_be_proposed(toy: ToyModel) -> None:
    request = ask(5, 12)
    served = engine(toy, lambda: Scripted(lambda tokens, count: [0, tiny_config().vocab_size - 1][:count]))
    served.submit(request)
    serve(served)
    assert request.error is None, f"tokens go from 0 to the model's number less 1, both included; got {request.error!r}"
    assert_alone(toy, request)
