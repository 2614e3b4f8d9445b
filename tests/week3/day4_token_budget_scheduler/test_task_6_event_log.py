"""Week 3 Day 4, task 6: what the engine tells the readers of its log, compared with what can be seen from outside."""

import random
from functools import partial
from typing import Any

import pytest

from answer import answer
from day6_engines import ENDS, ask_to_end
from event_logs import LoggedRun, assert_cut_in_order, assert_end_is_told, chunks_of
from paged_engines import ask, ask_with_eos, engine
from support import POISON, FragileModel, ToyModel, assert_alone, is_poisoned, make_prompt, step_until


def run_of(model: Any, **options: Any) -> LoggedRun:
    return LoggedRun(partial(engine, model, **options), one_left_decodes=True)


def test_task_6_log_of_a_run(toy: ToyModel) -> None:
    run = run_of(toy)
    run.submit(ask(5, 6), ask(30, 3, seed=1), ask_with_eos(toy, 6, 2, 9, seed=2), ask(9, 1, seed=3), ask(4, 5, seed=4))
    for _ in range(4):
        run.step()
    run.submit(ask(17, 2, seed=5))
    run.finish()
    assert_alone(toy, *run.requests)
    for request in run.requests:
        assert_cut_in_order(run, request, most=12)


@pytest.mark.parametrize("end", ENDS)
def test_task_6_log_of_every_end(toy: ToyModel, end: str) -> None:
    run = run_of(toy)
    request = run.submit(ask_to_end(toy, end, ask, ask_with_eos), ask(4, 12, seed=9))
    run.finish()
    assert_end_is_told(run, request, end)


def test_task_6_log_of_chunks_and_their_tokens(toy: ToyModel) -> None:
    run = run_of(toy)
    request = run.submit(ask(30, 3))
    run.finish()
    assert chunks_of(run, request) == [(12, 12), (12, 24), (6, 30)], (
        "no other request is there, so a prompt of 30 is launched in chunks of 12, each with its tokens and its position"
    )
    assert [event.step for event in run.of(request, "prefill chunk")] == [0, 1, 2], (
        "a chunk is logged in the step that launches it"
    )
    assert run.of(request, "first token")[0].step == 3, "and the first token when it is read, a step after it was launched"


def test_task_6_log_of_a_prompt_that_is_known_in_part(toy: ToyModel) -> None:
    run = run_of(toy)
    first = run.submit(ask(20, 3))
    run.finish()
    again = run.submit(ask(20, 3))
    run.finish()
    found = run.engine.metrics.prefix_cache_hits
    tokens, positions = zip(*chunks_of(run, again), strict=True)
    assert found > 0, "the prefix cache knows its beginning"
    assert (sum(tokens), positions[-1]) == (20 - found, 20), (
        f"{found} of its 20 tokens were found in the prefix cache: they are computed, and no chunk tells of them; chunks"
        f" (tokens, position) were {chunks_of(run, again)}"
    )
    assert sum(tokens for tokens, _ in chunks_of(run, first)) == 20, "of the first nothing was known"


def test_task_6_log_of_a_preemption(toy: ToyModel) -> None:
    run = run_of(toy, prefix_caching=False)
    victim = run.submit(ask(6, 9), ask(5, 12, seed=1))
    step_until(run, lambda: len(victim.generated_tokens) == 3)
    run.engine.preempt(victim)
    steps = len(run.states)
    run.finish()
    assert_alone(toy, *run.requests)
    (preempted,) = run.of(victim, "preempted")
    assert preempted.step == steps, "what happens between two steps is told with the next"
    assert len(run.of(victim, "admitted")) == 1, "it was admitted once; that it runs again is told by its chunks"
    assert len(run.of(victim, "first token")) == 1, "and its first token is the one before it was preempted"
    tokens = run.of(victim, "first token", "token")
    assert len(tokens) == 9, "each token comes once, also the one that was on its way when it was preempted"
    after = [event for event in run.of(victim, "prefill chunk") if event.step > steps]
    assert sum(event.tokens for event in after) == after[-1].position == 6 + 4, (
        "it lost everything, so its prompt of 6 and the 4 tokens that it knows by then are computed again, in chunks"
    )


def test_task_6_log_of_preemptions_by_the_plan(toy: ToyModel) -> None:
    run = run_of(toy, num_blocks=8, prefix_caching=False, watermark=0.0)
    run.submit(*(ask(6, 14, seed) for seed in range(3)))
    run.finish()
    assert_alone(toy, *run.requests)
    preemptions = [request.preemptions for request in run.requests]
    assert sum(preemptions) > 0, "8 blocks of 4 are too few for three requests of 20 tokens: the plan preempts one"
    assert [len(run.of(request, "preempted")) for request in run.requests] == preemptions, (
        "each preemption is logged, once, whether the plan or a caller asked for it"
    )


def test_task_6_log_of_deadlines_cancels_and_errors(toy: ToyModel) -> None:
    run = run_of(FragileModel(toy, is_poisoned), max_num_seqs=2)
    late, gone = ask(6, 30, deadline=5.0), ask(5, 30, seed=1)
    waits = ask(4, 3, seed=2)
    run.submit(late, gone, waits)
    step_until(run, lambda: len(gone.generated_tokens) == 2)
    run.engine.cancel(gone)
    run.engine.cancel(waits)
    run.finish()
    poisoned = run.submit(answer.PagedRequest([*make_prompt(4), POISON], 4))
    run.finish()
    ends = {request.request_id: run.of(request)[-1].kind.value for request in run.requests}
    assert ends == {
        late.request_id: "failed",
        gone.request_id: "cancelled",
        waits.request_id: "cancelled",
        poisoned.request_id: "failed",
    }, "a deadline that has passed and a model that fails are ends by error, which are logged as failed; a cancel as cancelled"
    assert [event.kind.value for event in run.of(waits)] == ["arrived", "cancelled"], "nothing was done for it"
    assert not chunks_of(run, poisoned), "a chunk on which the model failed was not computed: chunks are logged after `run`"


@pytest.mark.parametrize("seed", range(4))
def test_task_6_log_of_random_traffic(toy: ToyModel, seed: int) -> None:
    chance, run = random.Random(seed), run_of(toy, num_blocks=20, prefix_caching=seed % 2 == 0)

    def act(request: Any, new_text: str) -> None:
        if chance.random() < 0.05:
            raise OSError("the client's connection is gone")

    for _ in range(40):
        if chance.random() < 0.5:
            run.submit(ask(chance.randint(1, 25), chance.randint(1, 8), seed, on_update=act))
        if chance.random() < 0.15 and run.engine.running:
            run.engine.preempt(chance.choice(list(run.engine.running.values())))
        if chance.random() < 0.1 and run.requests:
            run.engine.cancel(chance.choice(run.requests))
        run.step()
    run.finish()
    for request in run.requests:
        assert len(run.of(request, "preempted")) == request.preemptions, "each preemption is logged, once"
