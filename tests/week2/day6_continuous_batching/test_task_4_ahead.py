"""Task 4, fifth part: launching ahead. Step n + 1 is launched before the tokens of step n are read.

An engine that reads at once gives the same answers, and the device stands still while it does: it passes all but these tests.
"""

from typing import Any

import pytest

from answer import answer
from day6_engines import UnreadableModel, ask, ask_with_eos, engine
from launching_ahead import (
    READ_LATER,
    WISHES,
    WatchingModel,
    assert_reads_the_step_before,
    note_what_is_started,
    waits_for_nothing,
)
from support import ToyModel, assert_alone, expect_no_error, finish_all, step_until
from tiny_llm_kit.models.tiny_random import ByteTokenizer


def watched_engine(toy: ToyModel, request: Any, slots: int) -> tuple[WatchingModel, Any]:
    model = WatchingModel(toy, request)
    scheduler = engine(model, slots)
    scheduler.submit(request)
    return model, scheduler


@pytest.mark.parametrize("wish", WISHES)
def test_task_4_ahead_a_step_is_launched_before_the_last_one_is_read(toy: ToyModel, wish: str) -> None:
    request = ask(4, 12, detokenizer=ByteTokenizer().detokenizer(), **WISHES[wish])
    model, scheduler = watched_engine(toy, request, slots=1)
    finish_all(scheduler)
    expect_no_error(request)
    assert len(model.known) == 12, "one call for the prompt, which yields a token, and one for each of the other 11"
    for launched, known in enumerate(model.known[1:], start=1):
        assert known < launched, (
            f"token {launched + 1} of the answer was launched when all before it had been read already: {READ_LATER}"
        )
        assert known >= launched - 2, (
            f"{launched} tokens had been launched, and only {known} read: each iteration reads what the one before launched"
        )


def test_task_4_ahead_of_the_second_prediction(toy: ToyModel) -> None:
    request = ask(3, 5)
    model, scheduler = watched_engine(toy, request, slots=1)
    step_until(scheduler, lambda: request.all_launched)
    assert request.offset == 7, (
        "a prompt of 3 tokens asks for the first of 5 tokens at offset 3, and 4 positions for the others"
    )
    assert model.known[-1] == 3, f"when the fifth token is launched, the third has come back, and here {model.known[-1]} had"
    finish_all(scheduler)
    assert_alone(toy, request)


def test_task_4_ahead_whoever_joins_and_leaves(toy: ToyModel) -> None:
    request = ask(4, 45)
    model, scheduler = watched_engine(toy, request, slots=3)
    others = [scheduler.submit(ask(length, max_tokens, length)) for length, max_tokens in ((3, 2), (20, 5), (2, 1), (10, 4))]
    others += [scheduler.submit(ask_with_eos(toy, 6, position, 30, seed=position)) for position in (1, 4, 6)]
    gone = scheduler.submit(ask(5, 30))
    step_until(scheduler, lambda: len(gone.generated_tokens) == 3)
    scheduler.cancel(gone)
    finish_all(scheduler)
    assert_alone(toy, request, *others)
    launched = 0
    for (rows, length), known in zip(model.calls, model.known, strict=True):
        if launched:
            assert known < launched, (
                f"before a call with {rows} rows of {length} tokens all {launched} tokens launched so far had been read, while"
                f" others joined or left: {READ_LATER}"
            )
        launched += length == 1 or not launched
    assert launched == 45, "it took part in every decode step, and they were as many as its tokens"


def test_task_4_ahead_all_of_an_iteration_is_launched_before_anything_is_read(toy: ToyModel) -> None:
    request = ask(4, 30)
    model, scheduler = watched_engine(toy, request, slots=3)
    others = [scheduler.submit(ask(length, 4, length)) for length in (20, 3, 2, 14)]

    def check() -> None:
        known = set(model.known)
        model.known.clear()
        assert len(known) <= 1, "tokens were read between two calls of an iteration: launch decode step and chunks first"

    finish_all(scheduler, after_step=check)
    assert_alone(toy, request, *others)


def test_task_4_ahead_a_slot_is_given_away_before_its_last_token_is_back(toy: ToyModel) -> None:
    first, second = ask(4, 6), ask(5, 4, seed=1)
    model, scheduler = watched_engine(toy, first, slots=1)
    scheduler.submit(second)
    finish_all(scheduler)
    assert_alone(toy, first, second)
    prompts = [call for call, (_, length) in enumerate(model.calls) if length > 1]
    assert model.known[prompts[1]] < 6, (
        "an end by max_tokens can be counted: when all tokens have been launched the slot is free, and the next prompt is"
        " launched before the last of them is read"
    )


def test_task_4_ahead_the_device_is_set_to_work_before_anything_is_read(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    started = note_what_is_started(monkeypatch)
    scheduler = engine(toy)
    scheduler.submit(ask(4, 9))
    scheduler.step()
    assert started, (
        "the first iteration has nothing to read, and its prompt is launched all the same: `InFlight.start` belongs there, so"
        " that the device is busy while the host does its bookkeeping"
    )


def test_task_4_ahead_a_step_does_not_wait_for_what_it_launches(toy: ToyModel) -> None:
    model = UnreadableModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(4, 20)), scheduler.submit(ask(6, 20, seed=1))]
    step_until(scheduler, lambda: all(request.generated_tokens for request in requests))
    newcomer = scheduler.submit(ask(5, 20, seed=2))
    assert_reads_the_step_before(scheduler, model, requests, newcomer)


@pytest.mark.parametrize(
    "way", [{}, {"temperature": 2.0, "top_k": 5, "top_p": 0.9, "min_p": 0.01, "seed": 1}, {"repetition_penalty": 1.5}]
)
def test_task_4_ahead_the_runner_waits_for_nothing(toy: ToyModel, way: dict[str, Any]) -> None:
    model = UnreadableModel(toy, inner=True)
    runner = answer.ModelRunner(model, 4, 64)
    requests = [ask(length, 30, sampling=answer.SamplingParams(**way)) for length in (4, 9, 6)]
    model.broken = True
    for slot, request in enumerate(requests):
        with waits_for_nothing("prefill"):
            first = runner.prefill(request, 0, 3)
            first = runner.prefill(request, 3, len(request.prompt))
        with waits_for_nothing("join"):
            runner.join(request, slot, first)
        for _ in range(3):
            with waits_for_nothing("decode"):
                runner.decode(requests[: slot + 1])
    with waits_for_nothing("leave"):
        runner.leave(2)
    with waits_for_nothing("decode"):
        runner.decode(requests[:2])


def test_task_4_ahead_a_move_waits_for_no_token(toy: ToyModel) -> None:
    model = UnreadableModel(toy)  # keys and values of a prompt can be computed, and no token
    runner = answer.ModelRunner(model, 4, 64)
    requests = [ask(length, 30) for length in (4, 9, 6)]
    model.broken = True
    for slot, request in enumerate(requests):
        runner.join(request, slot, runner.prefill(request, 0, len(request.prompt)))
    runner.leave(0)
    with waits_for_nothing("move, which may wait for the copy of its row but for no token,"):
        runner.move(2, 0)


def test_task_4_ahead_an_end_that_nobody_could_count_wastes_a_row_and_no_more(toy: ToyModel) -> None:
    for position in (1, 2, 5):
        request = ask_with_eos(toy, 4, position, 30)
        model, scheduler = watched_engine(toy, request, slots=1)
        finish_all(scheduler)
        assert_alone(toy, request)
        assert sum(model.decode_rows) == position + 1, (
            f"the EOS is token {position} after the first: {position} rows up to it, and one launched before the engine knew"
        )
