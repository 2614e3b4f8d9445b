"""Task 5, third part: what goes wrong ends the requests that it concerns, and the next group finds everything in order."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import pytest

from answer import answer
from day6_engines import (
    UnreadableModel,
    ask,
    assert_beginning,
    assert_can_still_serve,
    assert_failed,
    assert_returned,
    nothing_gets_out,
    only_reading_fails,
)
from groups import Batcher
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    assert_alone,
    finish_all,
    is_poisoned,
    make_prompt,
    refuses,
    step_until,
)


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that code which catches those does not stop it."""


def serve(batcher: Batcher, *requests: Any) -> list[Any]:
    """Submit these, and step until all have ended, whatever fails on the way."""
    __tracebackhide__ = True
    for request in requests:
        batcher.engine.submit(request)
    with nothing_gets_out():
        return finish_all(batcher.engine)


# Clients that go.


def test_task_5_accidents_a_row_of_a_cancelled_request_is_nobody_s(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model)
    long, gone, other = (batcher.engine.submit(ask(4, tokens, tokens)) for tokens in (12, 30, 6))
    waiting = batcher.engine.submit(ask(5, 3))
    step_until(batcher.engine, lambda: len(gone.generated_tokens) == 4)
    before = len(batcher.states)
    batcher.engine.cancel(gone)
    assert gone.state == "finished", "a cancelled request ends at once"
    ended = serve(batcher)
    assert_returned(ended, long, gone, other, waiting)
    assert_beginning(toy, gone)
    assert len(gone.generated_tokens) == 4, "after its end a request is given no more tokens"
    assert_alone(toy, long, other, waiting)
    active = [active for active, _, _ in batcher.seen[before:]]
    assert active[:3] == [2, 2, 1], (
        "the cancelled one has ended, so active are the two others until the one with 6 tokens ends, and then one; active were"
        f" {active}"
    )
    groups = batcher.groups()
    assert [len(group) for group in groups] == [3, 1], f"a slot that a cancel frees is given to no other: {groups}"
    assert len(model.decode_rows) == 11 + 2, (
        "the longest of those who are left wants 12 tokens, and the next group 3, the first of which comes from the prompt: 11"
        f" and 2 decode steps. What the cancelled one wanted is wanted no more, and there were {len(model.decode_rows)}"
    )
    finished = [number for number, _, event in batcher.events("FINISHED") if event.request_id == long.request_id]
    started = [number for number, _, event in batcher.events("ADMITTED") if event.request_id == waiting.request_id]
    assert [number + 1 for number in finished] == started, (
        "the group's longest is now the one with 12 tokens, and the next group starts in the iteration after its end; it ended"
        f" in {finished}, and the next group started in {started}"
    )


def test_task_5_accidents_all_of_a_group_are_cancelled(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=2)
    gone = [batcher.engine.submit(ask(4, 30, seed)) for seed in range(2)]
    waiting = [batcher.engine.submit(ask(5 + seed, 5, seed)) for seed in range(2)]
    step_until(batcher.engine, lambda: len(gone[0].generated_tokens) == 2)
    for request in gone:
        batcher.engine.cancel(request)
    calls = len(model.calls)
    ended = batcher.engine.step()
    left = [request.request_id for request in waiting if request.state == "waiting"]
    assert left == [], (
        "both members were cancelled, so no group runs, though a step may be on its way that no request needs: the next call"
        f" of step starts the next group, and its requests {left} still wait"
    )
    lengths = sorted(length for _, length in model.calls[calls:])[-2:]
    assert lengths == [5, 6], f"that step reads the prompts of the next group, of 5 and 6 tokens; its calls had {lengths}"
    assert_returned(ended + serve(batcher), *gone, *waiting)
    assert_alone(toy, *waiting)


def test_task_5_accidents_a_cancel_from_an_update(toy: ToyModel) -> None:
    batcher = Batcher(toy)
    others: list[Any] = []

    def cancel_all(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3 and request.state != "finished":
            for other in others:
                batcher.engine.cancel(other)

    others += [ask(5, 30), ask(7, 30)]
    canceller, waiting = ask(4, 9, on_update=cancel_all), ask(9, 4)
    assert_returned(serve(batcher, others[0], canceller, others[1], waiting), *others, canceller, waiting)
    assert_alone(toy, canceller, waiting)
    assert [request.finish_reason for request in others] == ["cancelled"] * 2, "they were cancelled"
    for request in others:
        assert_beginning(toy, request)


def test_task_5_accidents_a_client_that_asks_again_is_in_the_next_group(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=4)
    again: list[Any] = []

    def ask_again(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 2 and not again:
            again.append(batcher.engine.submit(ask(6, 3)))

    first, second = ask(4, 9, on_update=ask_again), ask(5, 4)
    ended = serve(batcher, first, second)
    assert_returned(ended, first, second, *again)
    assert_alone(toy, first, second, *again)
    assert [len(group) for group in batcher.groups()] == [2, 1], f"no request joins a running group: {batcher.groups()}"


@pytest.mark.parametrize("position", [1, 2, 9])
def test_task_5_accidents_a_failing_on_update_ends_its_request_only(toy: ToyModel, position: int) -> None:
    error = KeyError("the client has gone")

    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise error

    model = CountingModel(toy)
    batcher = Batcher(model)
    failing, others = ask(5, 9, on_update=fail), [ask(3, 12), ask(9, 12)]
    assert_returned(serve(batcher, others[0], failing, others[1]), failing, *others)
    assert_failed(toy, failing, error, "its on_update raised")
    assert_alone(toy, *others)
    assert_can_still_serve(batcher.engine, model, toy, slots=3)


# The model and the device.


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("place", [0, 11, 19])
@pytest.mark.parametrize("row", [0, 1, 2])
def test_task_5_accidents_a_prompt_on_which_the_model_fails(toy: ToyModel, late: bool, place: int, row: int) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned, late))
    batcher = Batcher(model)
    prompt = make_prompt(20)
    prompt[place] = POISON  # in the first, the second, or the last chunk
    poisoned, others = answer.Request(prompt, 5), [ask(4, 9), ask(5, 12)]
    in_order = [*others[:row], poisoned, *others[row:]]
    assert_returned(serve(batcher, *in_order), poisoned, *others)
    assert_failed(toy, poisoned, BrokenModelError, "the model raised in its prefill")
    assert (poisoned.generated_tokens, poisoned.kv_cache) == ([], None), "no token comes of it, and its cache is given back"
    assert_alone(toy, *others)
    assert_can_still_serve(batcher.engine, model, toy, slots=3)


def test_task_5_accidents_the_model_fails_on_every_prompt_of_a_group(toy: ToyModel) -> None:
    model = CountingModel(FragileModel(toy, is_poisoned))
    batcher = Batcher(model, batch_size=2)
    poisoned, others = [answer.Request([POISON, seed], 5) for seed in range(3)], [ask(4, 9), ask(5, 2), ask(6, 3)]
    assert_returned(serve(batcher, *poisoned, *others), *poisoned, *others)
    for request in poisoned:
        assert_failed(toy, request, BrokenModelError, "the model raised in its prefill")
    assert_alone(toy, *others)


@pytest.mark.parametrize("late", [False, True])
def test_task_5_accidents_the_model_fails_while_decoding(toy: ToyModel, late: bool) -> None:
    broken = False
    model = CountingModel(FragileModel(toy, lambda tokens: broken and tokens.shape[1] == 1, late))
    batcher = Batcher(model)
    short, *running = (batcher.engine.submit(ask(4, tokens, tokens)) for tokens in (2, 30, 31))
    waiting = batcher.engine.submit(ask(5, 6))
    ended: list[Any] = []
    while short not in ended:
        ended += batcher.engine.step()
    broken = True
    with nothing_gets_out():
        ended += batcher.engine.step()
    broken = False
    assert_returned(ended + serve(batcher), short, *running, waiting)
    for request in running:
        assert_failed(toy, request, BrokenModelError, "the model raised in a decode step of this request")
    assert short.finish_reason == "length", (
        f"it had its whole answer when the model failed, which concerns it no more; now it has ended with {short.error!r}"
    )
    assert_alone(toy, short, waiting)
    assert_can_still_serve(batcher.engine, model, toy, slots=3)


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("tokens", [0, 1, 4])
def test_task_5_accidents_a_failure_of_the_device(toy: ToyModel, tokens: int, inner: bool) -> None:
    unreadable = UnreadableModel(toy, inner)
    model = CountingModel(unreadable)
    batcher = Batcher(model)
    running = [batcher.engine.submit(ask(4, 30)), batcher.engine.submit(ask(7, 30)), batcher.engine.submit(ask(2, 30))]
    waiting = batcher.engine.submit(ask(5, 6))
    step_until(batcher.engine, lambda: len(running[0].generated_tokens) == tokens)
    ended: list[Any] = []
    with nothing_gets_out(), only_reading_fails():
        unreadable.broken = True
        ended += batcher.engine.step()
        unreadable.broken = False
        if not all(request.state == "finished" for request in running):  # what it launched is read in the next step
            ended += batcher.engine.step()
    for request in running:
        assert_failed(toy, request, Exception, "it ran when the device failed")
    assert_returned(ended + serve(batcher), *running, waiting)
    if waiting.error is None:
        assert_alone(toy, waiting)
    told, kept = batcher.engine.metrics.total_tokens, sum(len(request.generated_tokens) for request in [*running, waiting])
    assert told == kept, f"the answers have {kept} tokens and the log tells of {told}: nothing comes back from a broken device"
    assert_can_still_serve(batcher.engine, model, toy, slots=3)


@pytest.mark.parametrize("row", [0, 1])
@pytest.mark.parametrize("place", [0, 2, 5])
def test_task_5_accidents_logits_that_say_nothing_are_an_error(toy: ToyModel, place: int, row: int) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    batcher = Batcher(sick, batch_size=2)
    prompt = make_prompt(6)
    prompt[place] = POISON
    neighbour, victim = ask(4, 20), answer.Request(prompt, 10)
    successors = [ask(1 + seed, 6, seed) for seed in range(2)]
    in_order = [victim, neighbour] if row == 0 else [neighbour, victim]
    assert_returned(serve(batcher, *in_order, *successors), victim, neighbour, *successors)
    assert_failed(toy, victim, Exception, "its logits were NaN")
    assert "NaN" in str(victim.error), f"the error says that the logits were NaN or infinite; it is {victim.error!r}"
    assert victim.generated_tokens == [], "NaN is no token, not even token 0"
    assert_alone(toy, neighbour)
    for successor in successors:
        assert successor.finish_reason == "length", (
            f"it ended with {successor.error!r}: the next group's rows are where the victim's was, and what a mask hides is"
            " multiplied by 0, and 0 times NaN is NaN"
        )
    assert_alone(toy, *successors)


def test_task_5_accidents_nan_of_a_row_that_is_done_is_nobody_s(toy: ToyModel) -> None:
    sick = ToyModel()
    batcher = Batcher(sick)
    short, long = batcher.engine.submit(ask(30, 2)), batcher.engine.submit(ask(4, 20))
    ended: list[Any] = []
    while short not in ended:
        ended += batcher.engine.step()
    places = mx.arange(sick.position_embedding.shape[0])[:, None]
    sick.position_embedding = mx.where(places > 30, mx.nan, sick.position_embedding)  # where its row goes on, and no other
    assert_returned(ended + serve(batcher), short, long)
    assert short.finish_reason == "length", (
        "it had its whole answer before its row, which no request needed any more, became NaN"
    )
    assert_alone(toy, short, long)


# What interrupts an iteration.


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("decoding", [False, True])
def test_task_5_accidents_an_interrupted_iteration(toy: ToyModel, late: bool, decoding: bool) -> None:
    armed = True

    class Interrupted(FragileModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            try:
                return super().__call__(*args, **kwargs)
            except BrokenModelError:
                raise Interruption from None

    model = CountingModel(Interrupted(toy, lambda tokens: armed and (tokens.shape[1] == 1) == decoding, late))
    batcher = Batcher(model, batch_size=2)
    requests = [batcher.engine.submit(ask(5 + seed, 6, seed)) for seed in range(5)]
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        finish_all(batcher.engine)
    armed = False
    assert not batcher.engine.running, "all that run end when the iteration is interrupted"
    running = [request for request in requests if request.state == "finished"]
    assert running == requests[: len(running)], "the group is those that came first"
    assert 1 <= len(running) <= 2, f"{len(running)} have ended, of a group of 2"
    for request in running:
        assert_failed(toy, request, Interruption, "it ran when the iteration was interrupted")
    assert_returned(serve(batcher), *requests)
    assert_alone(toy, *requests[len(running) :])
    assert_can_still_serve(batcher.engine, model, toy, slots=2)


@pytest.mark.parametrize("position", [1, 3, 9])
def test_task_5_accidents_an_interrupted_update(toy: ToyModel, position: int) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise Interruption

    model = CountingModel(toy)
    batcher = Batcher(model)
    requests = [batcher.engine.submit(ask(4, 9, on_update=interrupt)), batcher.engine.submit(ask(3, 30, seed=1))]
    with refuses(Interruption, "step lets an interruption (which is no Exception) through"):
        finish_all(batcher.engine)
    waiting = ask(5, 4)
    assert_returned(serve(batcher, waiting), *requests, waiting)
    assert_beginning(toy, requests[0])
    assert_failed(toy, requests[1], Interruption, "it ran when the iteration was interrupted")
    assert_alone(toy, waiting)
    assert_can_still_serve(batcher.engine, model, toy, slots=3)


# Which calls of step are allowed.


def test_task_5_accidents_a_step_within_a_step_is_refused(toy: ToyModel) -> None:
    batcher = Batcher(toy)

    def step(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            batcher.engine.step()

    stepper, other = ask(4, 9, on_update=step), ask(6, 12)
    assert_returned(serve(batcher, stepper, other), stepper, other)
    assert_failed(toy, stepper, RuntimeError, "step refuses to run in the middle of a step: its on_update has failed")
    assert_alone(toy, other)


def test_task_5_accidents_a_second_thread_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model)
    request = batcher.engine.submit(ask(4, 9))
    with ThreadPoolExecutor(1) as thread, refuses(RuntimeError, "step, in another thread than the engine's"):
        thread.submit(batcher.engine.step).result()
    assert (request.state, model.calls) == ("waiting", []), "a step that is refused does nothing before"
    assert_returned(serve(batcher), request)
    assert_alone(toy, request)
