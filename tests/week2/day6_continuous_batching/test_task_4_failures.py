"""Task 4, third part: the engine. What goes wrong stays with those whom it concerns."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import ask, assert_can_still_serve, engine
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    alone,
    assert_alone,
    finish_all,
    is_poisoned,
    make_prompt,
    refuses,
    step_until,
)
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


@pytest.mark.parametrize("position", [1, 2, 12])
def test_task_4_engine_a_failing_on_update_ends_its_request_only(toy: ToyModel, position: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise error

    others = [scheduler.submit(ask(3, 12)), ask(9, 12)]
    failing = scheduler.submit(ask(5, 12, on_update=fail))
    scheduler.submit(others[1])
    ended = finish_all(scheduler)
    assert (failing.finish_reason, failing.error) == ("error", error), "it ends with the error that its on_update raised"
    assert ended.count(failing) == 1
    assert_alone(toy, *others)
    assert_can_still_serve(scheduler, model, toy, slots=3)


def test_task_4_engine_a_failing_last_update_of_a_cancelled_request(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def fail(request: Any, new_text: str) -> None:
        if request.state == "finished":
            raise KeyError("the client has gone")

    gone, other = scheduler.submit(ask(3, 12, on_update=fail)), scheduler.submit(ask(5, 12))
    step_until(scheduler, lambda: len(gone.generated_tokens) == 2)
    scheduler.cancel(gone)
    assert gone.state == "finished"
    assert finish_all(scheduler).count(gone) == 1
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 11, 19])
def test_task_4_engine_a_prompt_on_which_the_model_fails(toy: ToyModel, late: bool, place: int) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned, late))
    scheduler = engine(model, slots=3)
    first = scheduler.submit(ask(4, 15))
    prompt = make_prompt(20)
    prompt[place] = POISON  # in the first, the second, or the last chunk
    poisoned, last = scheduler.submit(answer.Request(prompt, 5)), scheduler.submit(ask(5, 9))
    ended = finish_all(scheduler)
    assert poisoned.finish_reason == "error", "the model raised in its prefill"
    assert isinstance(poisoned.error, BrokenModelError), "the request keeps the model's error"
    assert sorted(found.request_id for found in ended) == [first.request_id, poisoned.request_id, last.request_id]
    assert_alone(toy, first, last)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("late", [False, True])
def test_task_4_engine_the_model_fails_while_decoding(toy: ToyModel, late: bool) -> None:
    broken = False
    model = CountingModel(FragileModel(toy, lambda tokens: broken and tokens.shape[1] == 1, late))
    scheduler = engine(model)
    decoding = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(7, 30))]
    waiting = scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: all(request.generated_tokens for request in decoding))
    broken = True
    ended = scheduler.step()
    broken = False
    ended += finish_all(scheduler)
    for request in decoding:
        assert request.finish_reason == "error", "the model raised in a decode step of this request"
        assert isinstance(request.error, BrokenModelError), "the request keeps the model's error"
        assert request.generated_tokens == alone(toy, request.prompt, 30)[: len(request.generated_tokens)]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in (*decoding, waiting)]
    assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=2)


class ForeignModel:
    """Returns logits that cannot be computed, when told so: a part of them was asked for in another thread."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.config = model.config
        self.broken = False

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        logits = self.model(tokens, *args, **kwargs)
        if not self.broken:
            return logits
        with ThreadPoolExecutor(1) as elsewhere:
            return logits + elsewhere.submit(lambda: mx.zeros((1,)) + 1).result()


def test_task_4_engine_a_failure_of_the_device_is_not_silent(toy: ToyModel) -> None:
    foreign = ForeignModel(toy)
    model = CountingModel(foreign)
    scheduler = engine(model)
    running = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(7, 30))]
    waiting = scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: all(request.generated_tokens for request in running))
    foreign.broken = True
    ended = scheduler.step()
    foreign.broken = False
    ended += finish_all(scheduler)
    for request in running:
        assert request.finish_reason == "error", "its tokens can never be computed: it ends, and does not wait for ever"
        assert request.error is not None
        assert request.generated_tokens == alone(toy, request.prompt, 30)[: len(request.generated_tokens)]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in (*running, waiting)]
    assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("place", [0, 2, 5])
def test_task_4_engine_logits_that_say_nothing_are_an_error(toy: ToyModel, place: int) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    scheduler = engine(sick, slots=2)
    neighbour = scheduler.submit(ask(4, 40))
    prompt = make_prompt(6)
    prompt[place] = POISON
    victim = scheduler.submit(answer.Request(prompt, 10))
    successors = [scheduler.submit(ask(1, 6, seed)) for seed in range(3)]
    finish_all(scheduler)
    assert (victim.finish_reason, victim.generated_tokens) == ("error", []), "NaN is no token, not even token 0"
    assert "NaN" in str(victim.error), "the error says what was wrong"
    assert_alone(toy, neighbour)
    for successor in successors:
        assert successor.finish_reason == "length", (
            "it owns the slot after the victim: what a mask hides is multiplied by 0, and 0 times NaN is NaN"
        )
    assert_alone(toy, *successors)


def test_task_4_engine_infinite_logits_are_an_error(toy: ToyModel) -> None:
    sick = ToyModel()
    scheduler = engine(sick, slots=2)
    request = scheduler.submit(ask(4, 9))
    step_until(scheduler, lambda: len(request.generated_tokens) == 2)
    sick.only_printable = mx.full(sick.only_printable.shape, -mx.inf)  # all tokens are ruled out
    finish_all(scheduler)
    assert request.finish_reason == "error"
    sick.only_printable = toy.only_printable
    after = scheduler.submit(ask(7, 9))
    finish_all(scheduler)
    assert_alone(toy, after)


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that nobody who catches those stops it."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("decoding", [False, True])
def test_task_4_engine_an_interrupted_iteration(toy: ToyModel, late: bool, decoding: bool) -> None:
    armed = False

    class Interrupted(FragileModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            try:
                return super().__call__(*args, **kwargs)
            except BrokenModelError:
                raise Interruption from None

    model = CountingModel(Interrupted(toy, lambda tokens: armed and (tokens.shape[1] == 1) == decoding, late))
    scheduler = engine(model, slots=3)
    running = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(30, 30, seed=1))]
    step_until(scheduler, lambda: len(running[0].generated_tokens) == 2)
    if decoding:
        step_until(scheduler, lambda: len(running[1].generated_tokens) == 2)
    waiting = [scheduler.submit(ask(5, 6, seed)) for seed in range(3)]
    armed = True
    with refuses(Interruption, "step, which an interruption (no Exception) passes through"):
        finish_all(scheduler)
    armed = False
    assert [type(request.error) for request in running] == [Interruption] * 2, "those that ran end with what interrupted them"
    ended = finish_all(scheduler)
    everyone = [*running, *waiting]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in everyone], "nobody is lost"
    for request in everyone:
        assert request.error is None or isinstance(request.error, Interruption)
        answer_alone = alone(toy, request.prompt, request.max_tokens)
        assert request.generated_tokens == answer_alone[: len(request.generated_tokens)]
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("position", [1, 3, 9])
def test_task_4_engine_an_interrupted_update(toy: ToyModel, position: int) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise Interruption

    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(4, 9, on_update=interrupt)), scheduler.submit(ask(7, 30, seed=1))]
    with refuses(Interruption, "step, which an interruption (no Exception) passes through"):
        finish_all(scheduler)
    ended = finish_all(scheduler)
    assert sorted(found.request_id for found in ended) == [request.request_id for request in requests], "nobody is lost"
    assert isinstance(requests[1].error, Interruption), "it ran when the iteration was interrupted"
    assert_can_still_serve(scheduler, model, toy, slots=3)


def test_task_4_engine_a_step_within_a_step_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def step(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.step()

    stepper, other = scheduler.submit(ask(4, 9, on_update=step)), scheduler.submit(ask(6, 12))
    finish_all(scheduler)
    assert stepper.finish_reason == "error"
    assert isinstance(stepper.error, RuntimeError), "step refuses to run in the middle of a step: its on_update has failed"
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_engine_an_engine_works_in_any_one_thread(toy: ToyModel) -> None:
    def serve() -> list[Any]:
        scheduler = engine(toy)
        requests = [scheduler.submit(ask(4 + seed, 9, seed)) for seed in range(4)]
        finish_all(scheduler)
        return requests

    with ThreadPoolExecutor(1) as elsewhere:
        assert_alone(toy, *elsewhere.submit(serve).result())


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_4_engine_a_model_made_in_one_thread_serves_in_another(toy: ToyModel, architecture: str) -> None:
    config = tiny_config(architecture)
    model = answer.Model(config, random_weights(config))

    def serve() -> list[int]:
        scheduler = engine(model)
        request = scheduler.submit(ask(9, 9))
        finish_all(scheduler)
        if request.error is not None:
            raise request.error
        return list(request.generated_tokens)

    with ThreadPoolExecutor(1) as elsewhere:
        there = elsewhere.submit(serve).result()
    assert there == serve(), "the same model, the same prompt: the same answer, whichever thread asks"


def test_task_4_engine_an_engine_refuses_a_second_thread(toy: ToyModel) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(4, 9))
    scheduler.step()
    with ThreadPoolExecutor(1) as elsewhere, refuses(RuntimeError, "step, in another thread than the engine's"):
        elsewhere.submit(scheduler.step).result()
    finish_all(scheduler)
    assert_alone(toy, request)
