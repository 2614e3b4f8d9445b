"""Task 4, fourth part: cancel and failure. What goes wrong ends the requests that it concerns, and the engine stays whole."""

from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import (
    ENDS,
    UnreadableModel,
    ask,
    ask_to_end,
    ask_with_eos,
    assert_beginning,
    assert_can_still_serve,
    assert_failed,
    assert_returned,
    engine,
    nothing_gets_out,
    only_reading_fails,
)
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    assert_alone,
    expect_no_error,
    finish_all,
    is_poisoned,
    make_prompt,
    refuses,
    step_until,
)
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def serve(scheduler: Any) -> list[Any]:
    """To the end, whatever fails on the way."""
    __tracebackhide__ = True
    with nothing_gets_out():
        return finish_all(scheduler)


# A client.


def test_task_4_failures_an_empty_prompt_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    before = scheduler.submit(ask(3, 5))
    with refuses(ValueError, "submit, of an empty prompt"):
        scheduler.submit(answer.Request([], 5))
    after = scheduler.submit(ask(5, 5))
    assert_returned(serve(scheduler), before, after)
    assert_alone(toy, before, after)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("position", [1, 2, 12])
def test_task_4_failures_a_failing_on_update_ends_its_request_only(toy: ToyModel, position: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise error

    others = [scheduler.submit(ask(3, 12)), ask(9, 12)]
    failing = scheduler.submit(ask(5, 12, on_update=fail))
    scheduler.submit(others[1])
    assert_returned(serve(scheduler), failing, *others)
    assert_failed(toy, failing, error, "its on_update raised")
    assert_alone(toy, *others)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("end", ENDS)
def test_task_4_failures_a_failing_last_update(toy: ToyModel, end: str) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if request.state == "finished":
            raise error

    failing = ask_to_end(toy, end, ask, ask_with_eos, on_update=fail)
    others = [ask(3, 12), ask(9, 12)]
    for request in (others[0], failing, others[1]):
        scheduler.submit(request)
    assert_returned(serve(scheduler), failing, *others)
    assert_failed(toy, failing, error, f"its on_update raised when it heard of its end by {end}")
    assert failing.kv_cache is None, "a request that has ended holds no keys and values"
    assert_alone(toy, *others)
    assert_can_still_serve(scheduler, model, toy, slots=3)


def test_task_4_failures_a_failing_last_update_of_a_cancelled_request(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def fail(request: Any, new_text: str) -> None:
        if request.state == "finished":
            raise KeyError("the client has gone")

    gone, other = scheduler.submit(ask(3, 12, on_update=fail)), scheduler.submit(ask(5, 12))
    step_until(scheduler, lambda: len(gone.generated_tokens) == 2)
    with nothing_gets_out():
        scheduler.cancel(gone)
    assert gone.state == "finished", "a cancelled request has ended, whatever its on_update does"
    assert_returned(serve(scheduler), gone, other)
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


# The model.


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 11, 19])
def test_task_4_failures_a_prompt_on_which_the_model_fails(toy: ToyModel, late: bool, place: int) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned, late))
    scheduler = engine(model, slots=3)
    first = scheduler.submit(ask(4, 15))
    prompt = make_prompt(20)
    prompt[place] = POISON  # in the first, the second, or the last chunk
    poisoned, last = scheduler.submit(answer.Request(prompt, 5)), scheduler.submit(ask(5, 9))
    assert_returned(serve(scheduler), first, poisoned, last)
    assert_failed(toy, poisoned, BrokenModelError, "the model raised in its prefill")
    assert (poisoned.generated_tokens, poisoned.kv_cache) == ([], None), "no token comes of it, and its cache is given back"
    assert_alone(toy, first, last)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("late", [False, True])
def test_task_4_failures_the_model_fails_while_decoding(toy: ToyModel, late: bool) -> None:
    broken = False
    model = CountingModel(FragileModel(toy, lambda tokens: broken and tokens.shape[1] == 1, late))
    scheduler = engine(model)
    decoding = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(7, 30))]
    waiting = scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: all(request.generated_tokens for request in decoding))
    broken = True
    with nothing_gets_out():
        ended = scheduler.step()
    broken = False
    assert_returned(ended + serve(scheduler), *decoding, waiting)
    for request in decoding:
        assert_failed(toy, request, BrokenModelError, "the model raised in a decode step of this request")
    assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("chunks_read", [1, 2, 3])
def test_task_4_failures_a_prompt_outlives_a_decode_step_that_fails(toy: ToyModel, late: bool, chunks_read: int) -> None:
    broken = False
    model = CountingModel(FragileModel(toy, lambda tokens: broken and tokens.shape[1] == 1, late))
    scheduler = engine(model, slots=3)
    decoding = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(3, 30, seed=1))]
    step_until(scheduler, lambda: all(len(request.generated_tokens) > 1 for request in decoding))
    reader, waiting = scheduler.submit(ask(30, 12)), scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: reader.offset == 8 * chunks_read)
    broken = True
    with nothing_gets_out():
        ended = scheduler.step()
    broken = False
    assert_returned(ended + serve(scheduler), *decoding, reader, waiting)
    for request in decoding:
        assert_failed(toy, request, BrokenModelError, "the model raised in a decode step of this request")
    if chunks_read == 3 and isinstance(reader.error, BrokenModelError):
        reader = waiting  # an engine that prefills first has decoded it in the same iteration
    assert_alone(toy, reader, waiting)  # the decode call was not theirs
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("late", [False, True])
def test_task_4_failures_a_last_token_outlives_a_decode_step_that_fails(toy: ToyModel, late: bool) -> None:
    broken = False
    model = CountingModel(FragileModel(toy, lambda tokens: broken and tokens.shape[1] == 1, late))
    scheduler = engine(model, slots=3)
    ending, decoding = scheduler.submit(ask(3, 5)), scheduler.submit(ask(4, 30))
    step_until(scheduler, lambda: ending.all_launched)
    broken = True
    with nothing_gets_out():
        scheduler.step()
    broken = False
    serve(scheduler)
    assert_failed(toy, decoding, BrokenModelError, "the model raised in a decode step of this request")
    assert_alone(toy, ending)  # its last token was on its way already: it had no row in the call that failed
    assert_can_still_serve(scheduler, model, toy, slots=3)


# The device.


def run_on_a_failing_device(toy: ToyModel, scheduler: Any, model: UnreadableModel, running: Sequence[Any]) -> list[Any]:
    """Let this iteration's tokens fail when they are read, which may be in the next one; those that have ended by then."""
    __tracebackhide__ = True
    with nothing_gets_out(), only_reading_fails():
        model.broken = True
        ended = scheduler.step()
        model.broken = False
        ended += scheduler.step()
    for request in running:
        assert_failed(toy, request, Exception, "it ran when the device failed")
    return ended


def test_task_4_failures_a_failure_of_the_device_is_not_silent(toy: ToyModel) -> None:
    unreadable = UnreadableModel(toy)
    model = CountingModel(unreadable)
    scheduler = engine(model)
    running = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(7, 30))]
    waiting = scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: all(request.generated_tokens for request in running))
    unreadable.broken = True
    with nothing_gets_out():
        ended = scheduler.step()
    unreadable.broken = False
    assert_returned(ended + serve(scheduler), *running, waiting)
    for request in running:
        assert_failed(toy, request, Exception, "its tokens can never be computed")
    assert_alone(toy, waiting)
    kept, counted = sum(len(request.generated_tokens) for request in [*running, waiting]), scheduler.metrics.total_tokens
    assert counted == kept, f"{kept} tokens could be read, and the metrics have heard of {counted}"
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("inner", [False, True])
def test_task_4_failures_a_failure_that_shows_when_tokens_are_read(toy: ToyModel, inner: bool) -> None:
    unreadable = UnreadableModel(toy, inner)
    model = CountingModel(unreadable)
    scheduler = engine(model, slots=3)
    running = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(3, 30, seed=1))]
    step_until(scheduler, lambda: all(len(request.generated_tokens) > 1 for request in running))
    running.append(scheduler.submit(ask(50, 5)))
    step_until(scheduler, lambda: running[2].offset == 8)
    waiting = [scheduler.submit(ask(5, 6, seed)) for seed in range(4)]
    ended = run_on_a_failing_device(toy, scheduler, unreadable, running)
    assert_returned(ended + serve(scheduler), *running, *waiting)
    assert_alone(toy, *waiting)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("max_tokens", [1, 9])
def test_task_4_failures_a_first_token_that_cannot_be_read(toy: ToyModel, max_tokens: int) -> None:
    unreadable = UnreadableModel(toy)
    model = CountingModel(unreadable)
    scheduler = engine(model, slots=1)
    request, waiting = scheduler.submit(ask(4, max_tokens)), scheduler.submit(ask(60, 4, seed=1))
    ended = []
    with nothing_gets_out(), only_reading_fails():
        unreadable.broken = True
        ended += scheduler.step()
        unreadable.broken = False
    assert_returned(ended + serve(scheduler), request, waiting)
    assert_failed(toy, request, Exception, "its first token can never be computed")
    assert_can_still_serve(scheduler, model, toy, slots=1)


def test_task_4_failures_a_failure_that_shows_when_a_row_moves(toy: ToyModel) -> None:
    unreadable = UnreadableModel(toy, inner=True)
    model = CountingModel(unreadable)
    scheduler = engine(model, slots=3)
    running = [scheduler.submit(ask(2, max_tokens, max_tokens)) for max_tokens in (6, 30, 31)]
    waiting = scheduler.submit(ask(20, 5))
    step_until(scheduler, lambda: running[0].offset == 6)  # it launches its last token now, and then the third moves
    ended = run_on_a_failing_device(toy, scheduler, unreadable, running[1:])
    assert_returned(ended + serve(scheduler), *running, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, MemoryError])
@pytest.mark.parametrize("place", ["start", "read", "move"])
def test_task_4_failures_a_failure_of_the_device_may_be_any_exception(
    toy: ToyModel, monkeypatch: pytest.MonkeyPatch, place: str, kind: type[Exception]
) -> None:
    in_flight = import_module(f"{answer.__name__}.in_flight").InFlight
    owner, name = (answer.BatchingKvCache, "move_request") if place == "move" else (in_flight, place)
    given, armed = getattr(owner, name), False

    def fail(self: Any, *args: Any) -> Any:
        nonlocal armed
        if armed and (place == "move" or self.drawn):
            armed = False
            raise kind(f"the device failed at {place}")
        return given(self, *args)

    monkeypatch.setattr(owner, name, fail)
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    first, *running = (scheduler.submit(ask(2, max_tokens, max_tokens)) for max_tokens in (9, 30, 31))
    waiting = scheduler.submit(ask(20, 5))
    ended = step_until(scheduler, lambda: first.offset == 10)  # it launches its last token now, and then the third moves
    armed = True
    ended += serve(scheduler)
    if armed:  # an engine with a place of its own for what is in flight
        return
    for request in running:
        assert_failed(toy, request, kind, f"it ran when the device failed at {place}, whatever kind of exception that was")
    assert_returned(ended, first, *running, waiting)
    if not isinstance(waiting.error, kind):  # one that was admitted in that very iteration ran
        assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=3)


# Logits that say nothing.


@pytest.mark.parametrize("victim_first", [False, True])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_task_4_failures_logits_that_say_nothing_are_an_error(toy: ToyModel, place: int, victim_first: bool) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    scheduler = engine(sick, slots=2)
    prompt = make_prompt(6)
    prompt[place] = POISON
    neighbour, victim = ask(4, 40), answer.Request(prompt, 10)
    for request in (victim, neighbour) if victim_first else (neighbour, victim):
        scheduler.submit(request)
    successors = [scheduler.submit(ask(1, 6, seed)) for seed in range(3)]
    assert_returned(serve(scheduler), neighbour, victim, *successors)
    assert victim.generated_tokens == [], "NaN is no token, not even token 0"
    assert_failed(toy, victim, Exception, "its logits were NaN")
    assert "NaN" in str(victim.error), f"the error says that the logits were NaN or infinite; it is {victim.error!r}"
    assert_alone(toy, neighbour)
    for successor in successors:
        assert successor.finish_reason == "length", (
            "it owns the slot after the victim: what a mask hides is multiplied by 0, and 0 times NaN is NaN"
        )
    assert_alone(toy, *successors)


class SickOnce(ToyModel):
    """All is NaN in the row of a decode step that is at position `sick_at`, once."""

    sick_at: int | None = None

    def __call__(self, tokens: mx.array, offset: int | mx.array = 0, *args: Any, **kwargs: Any) -> mx.array:
        if tokens.shape[1] > 1 or self.sick_at not in mx.array(offset).reshape(-1).tolist():
            return super().__call__(tokens, offset, *args, **kwargs)
        healthy = self.position_embedding
        self.position_embedding = mx.where(mx.arange(healthy.shape[0])[:, None] == self.sick_at, mx.nan, healthy)
        self.sick_at = None
        try:
            return super().__call__(tokens, offset, *args, **kwargs)
        finally:
            self.position_embedding = healthy


@pytest.mark.parametrize("end", ["max_tokens", "EOS", "a cancel"])
def test_task_4_failures_a_slot_whose_last_row_was_sick(toy: ToyModel, end: str) -> None:
    sick = SickOnce()
    scheduler = engine(sick, slots=3, prefill_step=64, max_seq_len=128)
    victim = ask_with_eos(toy, 20, 3, 10) if end == "EOS" else ask(20, 6 if end == "max_tokens" else 10)
    long, short = ask(40, 30, seed=1), ask(3, 30, seed=2)
    # The row after the EOS, at position 23, is computed for nothing; the last of six tokens comes from position 24.
    sick.sick_at = 23 if end == "EOS" else 24
    for request in (victim, long, short):
        scheduler.submit(request)
    step_until(scheduler, lambda: sick.sick_at is None or victim.finish_reason is not None)
    sick.sick_at = None  # an engine that reads at once computes no row after the EOS
    noticed = victim.finish_reason == "error"  # by an engine that reads at once
    if end == "a cancel":
        scheduler.cancel(victim)
    serve(scheduler)
    for neighbour in (long, short):
        assert neighbour.error is None, (
            f"one of two neighbours ended with {neighbour.error!r}: the token of a sick row is read an iteration after it was"
            " launched, and meanwhile another request may have moved into its slot. A move has to bring all columns that the"
            " next step looks at"
        )
    assert_alone(toy, long, short)
    if end == "max_tokens" or noticed:
        assert_failed(toy, victim, Exception, "its last logits were NaN")
        return
    wanted = "stop" if end == "EOS" else "cancelled"
    assert victim.finish_reason == wanted, (
        f"it had ended with {wanted!r} before the NaN of a row that was not needed was read; now it is {victim.finish_reason!r}"
    )


@pytest.mark.parametrize("steps", [1, 2])
def test_task_4_failures_nan_of_a_cancelled_request_is_scrubbed_too(toy: ToyModel, steps: int) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    scheduler = engine(sick, slots=2)
    neighbour, victim = ask(4, 40), answer.Request([*make_prompt(5), POISON], 10)
    scheduler.submit(neighbour)
    scheduler.submit(victim)
    step_until(scheduler, lambda: victim.offset > 0)
    for _ in range(steps - 1):
        scheduler.step()
    scheduler.cancel(victim)  # after the first step its NaN has not been read yet, and is in its slot
    scheduler.step()  # by now it has come back
    successors = [scheduler.submit(ask(1, 6, seed)) for seed in range(2)]
    serve(scheduler)
    for successor in successors:
        assert successor.finish_reason == "length", (
            "it owns the slot of one that was cancelled before its NaN was noticed: a token that is not sound means a slot to"
            " scrub, whether its request still runs or not"
        )
    assert_alone(toy, neighbour, *successors)


def test_task_4_failures_infinite_logits_are_an_error(toy: ToyModel) -> None:
    sick = ToyModel()
    scheduler = engine(sick, slots=2)
    request = scheduler.submit(ask(4, 9))
    step_until(scheduler, lambda: len(request.generated_tokens) == 2)
    sick.only_printable = mx.full(sick.only_printable.shape, -mx.inf)
    serve(scheduler)
    assert_failed(toy, request, Exception, "all its logits were -inf, which rules out all tokens")
    sick.only_printable = toy.only_printable
    after = scheduler.submit(ask(7, 9))
    serve(scheduler)
    assert_alone(toy, after)


# What interrupts an iteration.


def test_task_4_failures_a_strategy_that_fails_is_not_silent(toy: ToyModel) -> None:
    error, broken = ZeroDivisionError("the mean length of no requests"), False

    def choose(waiting: Collection[Any], running: Sequence[Any], count: int) -> list[Any]:
        if broken:
            raise error
        return list(waiting)[:count]

    model = CountingModel(toy)
    scheduler = engine(model, strategy=SimpleNamespace(choose=choose))
    running = scheduler.submit(ask(4, 30))
    step_until(scheduler, lambda: len(running.generated_tokens) == 2)
    waiting, broken = scheduler.submit(ask(5, 6)), True
    with refuses(ZeroDivisionError, "step lets through what goes wrong in its plan"):
        finish_all(scheduler)
    broken = False
    assert_failed(toy, running, error, "it ran when the iteration was interrupted")
    assert (waiting.state, list(scheduler.waiting)) == ("waiting", [waiting.request_id]), (
        "the waiting requests are still there when a plan has failed, and no others are"
    )
    assert_returned(serve(scheduler), running, waiting)
    assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=2)


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that code which catches those does not stop it."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("decoding", [False, True])
def test_task_4_failures_an_interrupted_iteration(toy: ToyModel, late: bool, decoding: bool) -> None:
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
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        finish_all(scheduler)
    armed = False
    for request in running:
        assert_failed(toy, request, Interruption, "it ran when the iteration was interrupted")
    assert_returned(serve(scheduler), *running, *waiting)
    for request in waiting:
        if not isinstance(request.error, Interruption):  # one that was admitted in that very iteration ran
            assert_alone(toy, request)
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("position", [1, 3, 9])
def test_task_4_failures_an_interrupted_update(toy: ToyModel, position: int) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise Interruption

    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(4, 9, on_update=interrupt)), scheduler.submit(ask(3, 30, seed=1))]
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        finish_all(scheduler)
    assert_returned(serve(scheduler), *requests)
    assert_beginning(toy, requests[0])
    assert_failed(toy, requests[1], Interruption, "it ran when the iteration was interrupted")
    assert_can_still_serve(scheduler, model, toy, slots=3)


# Which calls of step are allowed.


def test_task_4_failures_a_step_within_a_step_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def step(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.step()

    stepper, other = scheduler.submit(ask(4, 9, on_update=step)), scheduler.submit(ask(6, 12))
    assert_returned(serve(scheduler), stepper, other)
    assert_failed(toy, stepper, RuntimeError, "step refuses to run in the middle of a step: its on_update has failed")
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_failures_a_step_that_is_refused_does_nothing(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    changes = []

    def everything() -> Any:
        lengths = [dict(cache.lengths) for cache in scheduler.runner.caches]
        return dict(scheduler.slots.slot_of), lengths, list(scheduler.waiting), list(scheduler.running)

    def step(request: Any, new_text: str) -> None:
        before = everything()
        with suppress(RuntimeError):
            scheduler.step()
        if everything() != before:
            changes.append((before, everything()))

    requests = [ask(4, max_tokens, max_tokens) for max_tokens in (3, 5, 4, 9, 2, 6)]
    requests.append(ask(4, 30, on_update=step))
    for request in requests:
        scheduler.submit(request)
    assert_returned(serve(scheduler), *requests)
    assert not changes, (
        f"a step in an on_update was refused, and yet slots, lengths, waiting and running went from {changes[0][0]} to"
        f" {changes[0][1]}: all that a step does is done in `with self.iteration():`"
    )
    assert_alone(toy, *requests)


def test_task_4_failures_works_in_any_one_thread(toy: ToyModel) -> None:
    def elsewhere() -> list[Any]:
        scheduler = engine(toy)
        requests = [scheduler.submit(ask(4 + seed, 9, seed)) for seed in range(4)]
        finish_all(scheduler)
        return requests

    with ThreadPoolExecutor(1) as thread:
        assert_alone(toy, *thread.submit(elsewhere).result())


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_4_failures_a_model_made_in_one_thread_serves_in_another(architecture: str) -> None:
    config = tiny_config(architecture)
    model = answer.Model(config, random_weights(config))

    def ask_it() -> list[int]:
        scheduler = engine(model)
        request = scheduler.submit(ask(9, 9))
        finish_all(scheduler)
        expect_no_error(request)
        return list(request.generated_tokens)

    with ThreadPoolExecutor(1) as thread:
        there = thread.submit(ask_it).result()
    assert there == ask_it(), "the same model, the same prompt: the same answer, whichever thread asks"


def test_task_4_failures_refuses_a_second_thread(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    request = scheduler.submit(ask(4, 9))
    scheduler.step()
    waiting, calls = scheduler.submit(ask(3, 5)), len(model.calls)
    with ThreadPoolExecutor(1) as thread, refuses(RuntimeError, "step, in another thread than the engine's"):
        thread.submit(scheduler.step).result()
    assert (waiting.state, len(model.calls)) == ("waiting", calls), "a step that is refused does nothing before"
    assert_returned(finish_all(scheduler), request, waiting)
    assert_alone(toy, request, waiting)
