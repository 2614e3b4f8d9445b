"""Task 4: what the engine tells the readers of its log, compared with what can be seen from outside, so that any right schedule
passes."""

import random
from functools import partial
from typing import Any

import pytest

from answer import answer
from day6_engines import ENDS, ask, ask_to_end, ask_with_eos, engine
from event_logs import LoggedRun, assert_cut_in_order, assert_end_is_told, chunks_of
from support import POISON, FragileModel, ToyModel, is_poisoned, make_prompt, step_until


def run_of(model: Any, slots: int = 3, **options: Any) -> LoggedRun:
    return LoggedRun(partial(engine, model, slots, **options))


def test_task_4_engine_log_of_a_run(toy: ToyModel) -> None:
    run = run_of(toy)
    run.submit(ask(5, 6), ask(30, 3, seed=1), ask_with_eos(toy, 6, 2, 9, seed=2), ask(9, 1, seed=3), ask(4, 5, seed=4))
    for _ in range(4):
        run.step()
    run.submit(ask(17, 2, seed=5))
    run.finish()
    for request in run.requests:
        assert_cut_in_order(run, request, most=8)


@pytest.mark.parametrize("end", ENDS)
def test_task_4_failures_log_of_every_end(toy: ToyModel, end: str) -> None:
    run = run_of(toy)
    request = run.submit(ask_to_end(toy, end, ask, ask_with_eos), ask(4, 12, seed=9))
    run.finish()
    assert_end_is_told(run, request, end)


@pytest.mark.parametrize("length", [1, 7, 8, 9, 24, 25])
def test_task_4_engine_log_of_chunks(toy: ToyModel, length: int) -> None:
    run = run_of(toy)
    request = run.submit(ask(length, 2))
    run.finish()
    full = [(8, 8 * (place + 1)) for place in range(length // 8)]
    expected = full + [(length % 8, length)] * (length % 8 > 0)
    assert chunks_of(run, request) == expected, (
        f"there is no other request, so a prompt of {length} is launched in chunks of 8, each with its tokens and its position"
    )
    steps = [event.step for event in run.of(request, "prefill chunk")]
    assert steps == list(range(len(expected))), "a chunk is logged in the step that launches it, one per step"


def test_task_4_engine_log_of_chunks_that_share_a_step(toy: ToyModel) -> None:
    run = run_of(toy, slots=4, prefill_step=16)
    requests = [ask(length, 4, seed=length) for length in (5, 6, 9, 20)]
    run.submit(*requests)
    run.finish()
    for request in requests:
        assert_cut_in_order(run, request, most=16)
    for state in run.states:
        tokens = sum(event.tokens for event in state.events if event.kind.value == "prefill chunk")
        assert tokens <= 16, f"step {state.step}: prefill_step is 16, and chunks of {tokens} tokens were logged"


def test_task_4_ahead_log_of_tokens_comes_after_their_launch(toy: ToyModel) -> None:
    run = run_of(toy)
    request = run.submit(ask(5, 4))
    run.finish()
    (chunk,), tokens = run.of(request, "prefill chunk"), run.of(request, "first token", "token")
    assert (chunk.step, chunk.time) == (0, 1), "the prompt is launched in the first step"
    assert (tokens[0].step, tokens[0].time) == (1, 2), (
        "and the first token is logged when it is read, in the step after: a log tells when a client hears of something"
    )
    assert run.of(request)[-1].time == tokens[-1].time, "with its last token it ends"


def test_task_4_failures_log_of_a_cancel(toy: ToyModel) -> None:
    run = run_of(toy, slots=2)
    waits, half_read, speaks = ask(4, 3, seed=3), ask(40, 5, seed=1), ask(5, 20, seed=2)
    run.submit(speaks, half_read, waits)
    step_until(run, lambda: len(speaks.generated_tokens) == 2, what="its second token")
    assert half_read.state == "prefilling", "40 tokens take five steps"
    for request in (speaks, half_read, waits):
        run.engine.cancel(request)
    steps = len(run.states)
    run.finish()
    for request in (speaks, half_read, waits):
        end = run.of(request)[-1]
        assert (end.kind.value, end.step) == ("cancelled", steps), "what happens between two steps is told with the next"
    assert run.of(speaks)[-1].tokens == 2, "the token that was on its way is not part of its answer"
    assert [event.kind.value for event in run.of(waits)] == ["arrived", "cancelled"], "nothing was done for it"
    computed = sum(tokens for tokens, _ in chunks_of(run, half_read))
    assert 0 < computed == chunks_of(run, half_read)[-1][1] < 40, "the chunks of its prompt that were launched stay in the log"


def test_task_4_failures_log_of_a_failing_model(toy: ToyModel) -> None:
    run = run_of(FragileModel(toy, is_poisoned))
    poisoned = run.submit(answer.Request([*make_prompt(10), POISON], 4), ask(5, 3))
    run.finish()
    assert poisoned.finish_reason == "error", "the model fails on its second chunk"
    assert run.of(poisoned)[-1].kind.value == "failed", "an end by error is logged as failed"
    assert chunks_of(run, poisoned)[0] == (8, 8), "its first chunk was launched all the same"


def test_task_4_failures_log_of_a_failing_client(toy: ToyModel) -> None:
    def fail(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 2:
            raise OSError("the client's connection is gone")

    run = run_of(toy)
    request = run.submit(ask(5, 9, on_update=fail), ask(4, 9, seed=1))
    run.finish()
    kinds = [event.kind.value for event in run.of(request)]
    assert kinds == ["arrived", "admitted", "prefill chunk", "first token", "token", "failed"], (
        f"its client failed at its second token, which was kept; the log has {kinds}"
    )


@pytest.mark.parametrize("seed", range(4))
def test_task_4_failures_log_of_random_traffic(toy: ToyModel, seed: int) -> None:
    chance, run = random.Random(seed), run_of(toy)

    def act(request: Any, new_text: str) -> None:
        match chance.choice(["raise", "cancel", "cancel another"] + ["nothing"] * 15):
            case "raise":
                raise OSError("the client's connection is gone")
            case "cancel":
                run.engine.cancel(request)
            case "cancel another":
                run.engine.cancel(chance.choice(run.requests))

    for _ in range(40):
        if chance.random() < 0.5:
            run.submit(ask(chance.randint(1, 25), chance.randint(1, 8), seed, on_update=act))
        if chance.random() < 0.15 and run.requests:
            run.engine.cancel(chance.choice(run.requests))
        run.step()
    run.finish()
