"""Task 5, first part: a group of a dynamic batcher starts together, runs until its longest answer is done, and says so in its
log. Whether an engine launches a step before it has read the last one is its own business here."""

from itertools import groupby
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from answer import answer
from day6_engines import ENDS, ask, ask_to_end, ask_with_eos, assert_returned, drawn_alone
from groups import Batcher
from support import (
    CountingModel,
    NearTie,
    ToyModel,
    alone,
    assert_alone,
    expect_no_error,
    finish_all,
    make_prompt,
    refuses,
    step_until,
    until_eos,
)


def serve(batcher: Batcher, *requests: Any) -> list[Any]:
    """Submit all of these, and step until they have ended."""
    __tracebackhide__ = True
    for request in requests:
        batcher.engine.submit(request)
    return finish_all(batcher.engine)


def decode_steps(model: CountingModel) -> list[list[int]]:
    """The rows of the decode steps, a list for each group: steps between which no prompt is read."""
    return [[rows for rows, _ in calls] for decodes, calls in groupby(model.calls, lambda call: call[1] == 1) if decodes]


# What a group computes.


@pytest.mark.parametrize("length", [1, 7, 8, 9, 30])
@pytest.mark.parametrize("max_tokens", [1, 2, 9])
def test_task_5_groups_of_one(toy: ToyModel, length: int, max_tokens: int) -> None:
    request = ask(length, max_tokens)
    assert_returned(serve(Batcher(toy), request), request)
    assert_alone(toy, request)


def test_task_5_groups_have_fresh_memory(toy: ToyModel) -> None:
    first, second = ask(4, 3), ask(6, 3, seed=1)
    serve(Batcher(toy, batch_size=1), first, second)
    expect_no_error(first)
    assert second.error is None, (
        f"the first group went well, and the second one ended with {second.error!r}: does it begin with fresh memory? The rows"
        " of the last group go with it, all at once (`self.runner.reset()`)"
    )
    assert_alone(toy, first, second)


def test_task_5_groups_run_until_their_longest_answer_is_done(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = [ask(4, max_tokens, max_tokens) for max_tokens in (12, 2, 3, 4, 9, 1, 2)]
    serve(Batcher(model, batch_size=3), *requests)
    steps = decode_steps(model)
    assert [set(rows) for rows in steps] == [{3}, {3}, {1}], (
        "groups of 3, 3 and 1 requests decode with 3, 3 and 1 rows until the end: rows of answers that are done run on with"
        f" their group, that is the cost of it; the decode steps had rows {steps}"
    )
    assert [len(rows) for rows in steps] == [11, 8, 1], (
        "the longest answers of the three groups have 12, 9 and 2 tokens, of which the first comes from the prompt, so decode"
        f" steps are 11, 8 and 1; here they were {[len(rows) for rows in steps]}"
    )
    assert_alone(toy, *requests)


def test_task_5_groups_give_the_answers_of_requests_alone(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=4)
    requests = [ask(2 + 3 * place, 3 + (5 * place) % 11, place) for place in range(10)]
    assert_returned(serve(batcher, *requests), *requests)
    assert_alone(toy, *requests)


def test_task_5_groups_are_in_order_of_arrival(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=3)
    requests = [ask(length, 3, length) for length in (9, 3, 30, 5, 2, 4, 11)]
    serve(batcher, *requests)
    ids = [request.request_id for request in requests]
    assert batcher.groups() == [ids[:3], ids[3:6], ids[6:]], (
        f"seven requests {ids} are three groups of at most 3, in the order in which they came; admitted together were"
        f" {batcher.groups()}"
    )


def test_task_5_groups_of_answers_that_are_one_token(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=2)
    requests = [ask(4, 1, seed) for seed in range(3)]
    serve(batcher, *requests)
    assert_alone(toy, *requests)
    assert model.decode_rows == [], f"the one token of each comes from its prompt, and there were steps {model.decode_rows}"
    assert batcher.seen == [(2, 2, 1), (1, 2, 0)], f"an iteration for each group; active, slots, queue were {batcher.seen}"


def test_task_5_groups_let_nobody_join(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, batch_size=4)
    long, short = batcher.engine.submit(ask(4, 12)), batcher.engine.submit(ask(5, 2))
    step_until(batcher.engine, lambda: short.state == "finished")
    late = [batcher.engine.submit(ask(3, 2, seed)) for seed in range(2)]
    step_until(batcher.engine, lambda: any(request.state != "waiting" for request in late))
    assert long.state == "finished", (
        "of four slots two were never used and one is done, and yet none joins before the longest answer of the group is done"
    )
    finish_all(batcher.engine)
    assert_alone(toy, long, short, *late)
    assert [len(group) for group in batcher.groups()] == [2, 2], f"two groups of two: {batcher.groups()}"


def test_task_5_groups_tell_whoever_is_done_at_once(toy: ToyModel) -> None:
    told: list[str] = []
    batcher = Batcher(toy)

    def note(request: Any, new_text: str) -> None:
        if request.state == "finished":
            told.append("short" if request.max_tokens == 3 else "long")

    long, short = (batcher.engine.submit(ask(4, tokens, tokens, on_update=note)) for tokens in (12, 3))
    returned: list[Any] = []
    while not returned:
        assert len(batcher.states) < 12, "step has returned no request in 12 iterations"
        returned += batcher.engine.step()
    assert (returned, told) == ([short], ["short"]), "an answer goes to its client when it is done, not when its group is"
    assert len(batcher.states) == 3, f"3 tokens are back after 3 iterations, and it took {len(batcher.states)}"
    assert_returned(returned + finish_all(batcher.engine), long, short)


def test_task_5_groups_that_end_by_eos_do_not_run_on(toy: ToyModel) -> None:
    model = CountingModel(toy)
    requests = [ask_with_eos(toy, 5, position, 40, seed=position) for position in (2, 5, 3)]
    serve(Batcher(model), *requests)
    assert_alone(toy, *requests)
    steps = [len(rows) for rows in decode_steps(model)]
    assert steps in ([5], [6]), (
        "the last EOS is the fifth token after the first: 5 decode steps of one group, or one more where it was launched before"
        f" the EOS was read; there were {steps}, and max_tokens is 40"
    )


@pytest.mark.parametrize("end", ENDS)
def test_task_5_groups_know_each_end_of_an_answer(toy: ToyModel, end: str) -> None:
    served = Batcher(toy)
    ending, others = ask_to_end(toy, end, ask, ask_with_eos), [ask(3, 15), ask(9, 12)]
    serve(served, others[0], ending, others[1])
    expect_no_error(ending)
    wanted = "length" if end in ("max_tokens", "a single token") else "stop"
    assert ending.finish_reason == wanted, f"it ends by {end}, with {wanted!r}, not with {ending.finish_reason!r}"
    if end == "a stop string":
        said = [stop for stop in ending.stop if stop in ending.text]
        assert said == [], f"the stop string is no part of the text, and {said} is in {ending.text!r}"
        assert_alone(toy, *others)
    else:
        assert_alone(toy, ending, *others)


@pytest.mark.parametrize("way", [{"temperature": 2.0, "top_k": 20}, {"repetition_penalty": 1.5}])
def test_task_5_groups_draw_as_each_request_wants_it(toy: ToyModel, way: dict[str, Any]) -> None:
    own = [ask(length, 9, sampling=answer.SamplingParams(seed=length, **way)) for length in (4, 7)]
    greedy = [ask(5, 3), ask(12, 14)]
    serve(Batcher(toy, batch_size=4), own[0], greedy[0], own[1], greedy[1])
    expect_no_error(*own)
    assert_alone(toy, *greedy)
    for request in own:
        assert request.generated_tokens == drawn_alone(toy, request, 9), (
            f"with {way} a request in a group says something else than alone: look at the tokens that its sampler is given,"
            " also of rows of answers that are done"
        )


@pytest.mark.parametrize("tokens", [(2, 60), (60, 2), (2, 2, 60)])
def test_task_5_groups_have_room_for_rows_that_run_on(toy: ToyModel, tokens: tuple[int, ...]) -> None:
    """The longest prompt with the shortest answer runs on as long as the shortest prompt with the longest answer."""
    for lengths in ((62, 4, 5), (4, 62, 5)):
        requests = [ask(length, most) for length, most in zip(lengths, tokens, strict=False)]
        serve(Batcher(toy), *requests)
        expect_no_error(*requests)
        assert_alone(toy, *requests)


def test_task_5_groups_read_prompts_in_chunks(toy: ToyModel) -> None:
    model = CountingModel(toy)
    batcher = Batcher(model, prefill_step=8)
    requests = [ask(length, 2) for length in (20, 3, 16)]
    serve(batcher, *requests)
    assert_alone(toy, *requests)
    assert model.prompt_tokens == 39, f"each prompt token is computed once, and {model.prompt_tokens} of 39 were"
    lengths = [length for length in model.lengths if length > 1]
    assert sorted(lengths) == [3, 4, 8, 8, 8, 8], f"20, 3 and 16 tokens in chunks of at most 8; calls had {lengths} tokens"


def test_task_5_groups_follow_one_another(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=2)
    for wave in range(3):
        requests = [batcher.engine.submit(ask(5 + 4 * seed, 6 - wave, seed)) for seed in range(3)]
        assert set(batcher.engine.run()) == set(requests), "run returns the requests of this wave, each once"
        assert_alone(toy, *requests)
    assert not batcher.engine.has_work, "all has been returned"
    assert batcher.engine.run() == [], "all has been returned: nothing twice"


def test_task_5_groups_limit_an_answer_to_max_seq_len(toy: ToyModel) -> None:
    request = ask(60, 100)
    serve(Batcher(toy, max_seq_len=64), request)
    assert len(request.generated_tokens) == 4, f"64 less 60 tokens are left; it was given {len(request.generated_tokens)}"
    assert_alone(toy, request)


# What the log says.


def test_task_5_groups_of_4_12_and_8_steps_use_two_thirds_of_their_slots(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=3)
    requests = [ask(3, max_tokens, max_tokens) for max_tokens in (4, 12, 8)]
    serve(batcher, *requests)
    assert_alone(toy, *requests)
    assert batcher.seen == [(3, 3, 0)] * 4 + [(2, 3, 0)] * 4 + [(1, 3, 0)] * 4, (
        "an iteration for each token of the longest answer, 12 of them; active in it are those that have not ended before:"
        f" three for 4, two for 4, and one for 4 iterations. Active, slots and queue were {batcher.seen}"
    )
    assert batcher.engine.metrics.slot_utilization == pytest.approx(24 / 36), "24 tokens in 12 iterations of 3 slots"


def test_task_5_groups_count_slots_that_nobody_took(toy: ToyModel) -> None:
    batcher = Batcher(toy, batch_size=2)
    serve(batcher, *[ask(3, max_tokens, max_tokens) for max_tokens in (4, 2, 3, 5, 1)])
    assert batcher.seen == [
        *[(2, 2, 3), (2, 2, 3), (1, 2, 3), (1, 2, 3)],  # 4 and 2 tokens
        *[(2, 2, 1), (2, 2, 1), (2, 2, 1), (1, 2, 1), (1, 2, 1)],  # 3 and 5
        (1, 2, 0),
    ], (
        "active are those of the group that have not ended, slots are batch_size also when a group is smaller, and those of"
        f" later groups are in the queue: {batcher.seen}"
    )


def test_task_5_groups_log_a_request_s_life(toy: ToyModel) -> None:
    batcher = Batcher(toy, prefill_step=8)
    requests = [ask(20, 3), ask(5, 1, seed=1)]
    serve(batcher, *requests)
    lives = [
        [(kind, event.tokens, event.position) for _, kind, event in batcher.events() if event.request_id == request.request_id]
        for request in requests
    ]
    assert lives[0] == [
        ("ARRIVED", 20, 0),
        ("ADMITTED", 0, 0),
        ("PREFILL_CHUNK", 8, 8),
        ("PREFILL_CHUNK", 8, 16),
        ("PREFILL_CHUNK", 4, 20),
        ("FIRST_TOKEN", 0, 0),
        ("TOKEN", 0, 0),
        ("TOKEN", 0, 0),
        ("FINISHED", 3, 0),
    ], f"a prompt of 20 tokens in chunks of 8, and 3 tokens, is in the log as in that of the engines: {lives[0]}"
    assert [kind for kind, *_ in lives[1]] == ["ARRIVED", "ADMITTED", "PREFILL_CHUNK", "FIRST_TOKEN", "FINISHED"], (
        f"a prompt of 5 tokens and an answer of one: {lives[1]}"
    )
    tokens = [state.new_tokens for state in batcher.states]
    assert tokens == [2, 1, 1], f"two first tokens, and then one per iteration: new_tokens were {tokens}"


def test_task_5_groups_admit_all_at_their_start(toy: ToyModel) -> None:
    batcher = Batcher(toy)
    serve(batcher, *[ask(4, max_tokens, max_tokens) for max_tokens in (5, 2, 4, 3, 1)])
    starts = [number for number, _, _ in batcher.events("ADMITTED")]
    assert starts == [0, 0, 0, 5, 5], (
        f"three start in iteration 0, and two when the 5 tokens of the longest are back, in iteration 5; they"
        f" started in {starts}"
    )
    first = [number for number, _, _ in batcher.events("FIRST_TOKEN")]
    assert first == starts, f"an iteration is there for each token, so first tokens are back in that of the prompts: {first}"


# Whatever comes.


CLIENTS = st.tuples(
    st.integers(1, 20),  # prompt tokens
    st.integers(1, 9),  # max_tokens
    st.none() | st.integers(0, 8),  # which of its tokens is its EOS
    st.integers(0, 12),  # the step before which it comes
    st.none() | st.none() | st.integers(0, 9),  # after how many more steps it goes
)


@settings(max_examples=25)
@given(clients=st.lists(CLIENTS, min_size=1, max_size=7), batch_size=st.integers(1, 4), prefill_step=st.integers(2, 16))
def test_task_5_groups_alone_or_together(
    toy: ToyModel, clients: list[tuple[int, int, int | None, int, int | None]], batch_size: int, prefill_step: int
) -> None:
    batcher = Batcher(toy, batch_size, prefill_step=prefill_step)
    requests = []
    try:
        for length, max_tokens, eos_at, _, _ in clients:
            tokens = alone(toy, make_prompt(length), max_tokens)
            requests.append(ask(length, max_tokens, eos_token_ids=[] if eos_at is None else tokens[eos_at : eos_at + 1]))
    except NearTie:
        reject()
    ended: list[Any] = []
    for now in range(13 + 10 * len(clients)):
        for (_, _, _, arrival, patience), request in zip(clients, requests, strict=True):
            if arrival == now:
                batcher.engine.submit(request)
            if patience is not None and arrival + patience == now:
                batcher.engine.cancel(request)
        ended += batcher.engine.step()
    expect_no_error(*requests)
    assert not batcher.engine.has_work, (
        f"after {13 + 10 * len(clients)} steps some have not ended: {[request.state for request in requests]}"
    )
    assert sorted(r.request_id for r in ended) == [r.request_id for r in requests], "step returns each ended request once"
    for client, request in zip(clients, requests, strict=True):
        expected = until_eos(alone(toy, request.prompt, request.max_tokens), request.eos_token_ids)
        if request.finish_reason == "cancelled":
            assert client[4] is not None, f"the client {client} did not cancel"
            expected = expected[: len(request.generated_tokens)]
        assert request.generated_tokens == expected, (
            f"the client {client} was told something else than when it is alone: its row, position or mask was"
            " another's, or a token was lost or taken twice"
        )
    assert max(map(len, batcher.groups()), default=0) <= batch_size, f"a group has at most {batch_size}: {batcher.groups()}"


# What is refused.


@pytest.mark.parametrize("size", ["batch_size", "max_seq_len", "prefill_step"])
def test_task_5_groups_refuse_a_size_below_1(toy: ToyModel, size: str) -> None:
    with refuses(ValueError, f"a {size} of 0", named=size):
        Batcher(toy, **{"batch_size": 2, size: 0})
    request = ask(1, 2)
    serve(Batcher(toy, **{"batch_size": 2, size: 3}), request)
    assert_alone(toy, request)


@pytest.mark.parametrize("max_wait", [-0.5, nan, inf])
def test_task_5_groups_refuse_a_max_wait_that_is_no_time(toy: ToyModel, max_wait: float) -> None:
    with refuses(ValueError, f"a max_wait of {max_wait}", named=str(max_wait)):
        Batcher(toy, 2, max_wait)
    request = ask(1, 2)
    serve(Batcher(toy, 2, 0), request)
    assert_alone(toy, request)
