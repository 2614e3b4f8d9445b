"""Week 3 Day 4, task 6: launching ahead. Step n + 1 is launched before the tokens of step n are read."""

from typing import Any

import pytest

from day6_engines import UnreadableModel
from launching_ahead import READ_LATER, WISHES, WatchingModel, assert_reads_the_step_before, note_what_is_started
from paged_engines import ask, ask_with_eos, engine
from support import ToyModel, assert_alone, expect_no_error, finish_all, step_until
from tiny_llm_kit.models.tiny_random import ByteTokenizer


def watched_engine(toy: ToyModel, request: Any, **options: Any) -> tuple[WatchingModel, Any]:
    model = WatchingModel(toy, request)
    served = engine(model, **options)
    served.submit(request)
    return model, served


@pytest.mark.parametrize("wish", WISHES)
def test_task_6_ahead_a_step_is_launched_before_the_last_one_is_read(toy: ToyModel, wish: str) -> None:
    request = ask(4, 12, detokenizer=ByteTokenizer().detokenizer(), **WISHES[wish])
    model, served = watched_engine(toy, request)
    finish_all(served)
    expect_no_error(request)
    assert model.known == [0, *range(11)], (
        "one call for the prompt, which yields a token, and one for each of the other 11; when token n + 1 is launched, token n"
        f" is on its way and those before it have been read: {READ_LATER}"
    )


def test_task_6_ahead_whoever_joins_and_leaves(toy: ToyModel) -> None:
    request = ask(4, 45)
    model, served = watched_engine(toy, request, num_blocks=64)
    others = [served.submit(ask(length, tokens, length)) for length, tokens in ((3, 2), (20, 5), (2, 1), (10, 4))]
    others += [served.submit(ask_with_eos(toy, 6, position, 30, seed=position)) for position in (1, 4, 6)]
    gone = served.submit(ask(5, 30))
    step_until(served, lambda: len(gone.generated_tokens) == 3)
    served.cancel(gone)
    finish_all(served)
    assert_alone(toy, request, *others)
    calls = model.known[: 1 + model.known.index(43)]
    assert calls == [0, *range(44)], f"it has a part in every step, and each is launched ahead: {READ_LATER}"


def test_task_6_ahead_room_is_given_away_before_a_last_token_is_back(toy: ToyModel) -> None:
    first, second = ask(4, 6), ask(5, 4, seed=1)
    model, served = watched_engine(toy, first, max_num_seqs=1)
    served.submit(second)
    finish_all(served)
    assert_alone(toy, first, second)
    prompt = next(call for call, (_, length) in enumerate(model.calls) if length == 5)
    assert model.known[prompt] == 5, (
        "an end by max_tokens can be counted: when all tokens have been launched the seat is free, and the next prompt is"
        " launched before the last of them is read"
    )


def test_task_6_ahead_the_device_is_set_to_work_before_anything_is_read(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    started = note_what_is_started(monkeypatch)
    served = engine(toy)
    served.submit(ask(30, 9))
    served.step()
    assert started, (
        "the first step has nothing to read, and no request gets a token in it; its chunk is computed all the same while the"
        " host does its bookkeeping, not later when the host waits for it"
    )


def test_task_6_ahead_a_step_does_not_wait_for_what_it_launches(toy: ToyModel) -> None:
    model = UnreadableModel(toy)
    served = engine(model)
    requests = [served.submit(ask(4, 20)), served.submit(ask(6, 20, seed=1))]
    step_until(served, lambda: all(request.generated_tokens for request in requests))
    newcomer = served.submit(ask(5, 20, seed=2))
    assert_reads_the_step_before(served, model, requests, newcomer)


def test_task_6_ahead_an_end_that_nobody_could_count_wastes_a_row_and_no_more(toy: ToyModel) -> None:
    for position in (1, 2, 5):
        request = ask_with_eos(toy, 4, position, 30)
        model, served = watched_engine(toy, request)
        finish_all(served)
        assert_alone(toy, request)
        assert len(model.calls) == position + 2, (
            f"the EOS is token {position} after the first: a call for the prompt, {position} up to it, and one launched before"
            " the engine knew"
        )
