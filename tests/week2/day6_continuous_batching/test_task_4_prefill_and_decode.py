"""Task 4: prefill and decode phases, in the scheduler and in the plan of an iteration."""

from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    alone,
    finish_all,
    is_poisoned,
    make_prompt,
    step_until,
)
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config


def engine(model: Any, slots: int = 2, **options: Any) -> Any:
    return answer.ContinuousBatchScheduler(model, slots, **{"max_seq_len": 64, "prefill_step": 8} | options)


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    return answer.Request(make_prompt(length, seed), max_tokens, **options)


def assert_alone(toy: ToyModel, *requests: Any) -> None:
    """Each has ended by itself, with the tokens that it generates when nobody else is there."""
    for request in requests:
        assert request.finish_reason in ("stop", "length"), f"it ended with {request.finish_reason}: {request.error!r}"
        expected = alone(toy, request.prompt, request.max_tokens, request.eos_token_ids)
        assert request.generated_tokens == expected, (
            f"a prompt of {len(request.prompt)} tokens got another answer than alone: look at its positions, its mask and its"
            " slot, and at whether a token was lost or taken twice"
        )


def assert_can_still_serve(scheduler: Any, counting: CountingModel, toy: ToyModel, slots: int) -> None:
    """A full batch of new requests finds all slots free."""
    counting.calls.clear()
    requests = [scheduler.submit(ask(4 + seed, 12, seed)) for seed in range(slots)]
    finish_all(scheduler)
    assert_alone(toy, *requests)
    assert max(counting.decode_rows) == slots, f"only {max(counting.decode_rows)} of {slots} slots are left: a slot leaks"


# One request, and who shares its batch.


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 30])
@pytest.mark.parametrize("max_tokens", [1, 2, 9])
def test_task_4_one_request(toy: ToyModel, length: int, max_tokens: int) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(length, max_tokens))
    assert scheduler.run() == [request]
    assert_alone(toy, request)


def test_task_4_rows_of_different_lengths(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=4)
    requests = [scheduler.submit(ask(length, 10)) for length in (1, 25, 8, 3)]
    finish_all(scheduler)
    assert_alone(toy, *requests)


def test_task_4_more_requests_than_slots(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(2 + 3 * i, 3 + (5 * i) % 11)) for i in range(10)]
    assert set(scheduler.run()) == set(requests)
    assert_alone(toy, *requests)
    assert max(model.decode_rows) == 3, "three slots: three rows at most, and three while enough requests are there"


def test_task_4_a_row_never_sees_what_an_earlier_owner_left(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=1)
    requests = [scheduler.submit(ask(length, max_tokens)) for length, max_tokens in ((40, 20), (2, 5), (30, 2), (1, 9))]
    finish_all(scheduler)
    assert_alone(toy, *requests)


def test_task_4_every_state_in_turn(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=1)
    first, second = scheduler.submit(ask(20, 5)), scheduler.submit(ask(20, 5))
    seen: list[str] = []
    for _ in range(100):
        if not seen or seen[-1] != second.state:
            seen.append(second.state)
        if not scheduler.has_work:
            break
        scheduler.step()
        assert 0 <= second.offset <= len(second.tokens), "offset counts tokens that were computed: there are no more"
    assert seen == ["waiting", "prefilling", "decoding", "finished"], "in this order, each once; its prompt takes 3 chunks"
    assert first.state == "finished"


def test_task_4_has_work_until_all_is_returned(toy: ToyModel) -> None:
    scheduler = engine(toy)
    assert not scheduler.has_work
    request = scheduler.submit(ask(3, 2))
    assert scheduler.has_work, "somebody waits"
    assert finish_all(scheduler) == [request]
    assert not scheduler.has_work
    assert scheduler.run() == [], "all has been returned: nothing twice"


def test_task_4_an_idle_step_costs_nothing(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    scheduler.submit(ask(3, 2))
    finish_all(scheduler)
    calls = len(model.calls)
    assert scheduler.step() == []
    assert len(model.calls) == calls, "with nobody there the model is not called"


def test_task_4_a_second_wave(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    for wave in range(3):
        requests = [scheduler.submit(ask(5 + 4 * seed, 6 - wave, seed)) for seed in range(5)]
        assert set(scheduler.run()) == set(requests), "run returns the requests of this wave, each once"
        assert_alone(toy, *requests)


# Iteration by iteration.


def test_task_4_who_comes_later_does_not_wait_for_a_group(toy: ToyModel) -> None:
    scheduler = engine(CountingModel(toy))
    long, short = scheduler.submit(ask(4, 30)), scheduler.submit(ask(4, 3, seed=1))
    third = scheduler.submit(ask(4, 3, seed=2))
    step_until(scheduler, lambda: third.state == "finished")
    assert long.state == "decoding", "the third request can have the second one's slot while the first still runs"
    assert short.state == "finished"
    finish_all(scheduler)
    assert_alone(toy, long, short, third)


def test_task_4_who_comes_while_others_run_joins_them(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    first = scheduler.submit(ask(4, 30))
    step_until(scheduler, lambda: len(first.generated_tokens) == 3)
    assert max(model.decode_rows) == 1
    second = scheduler.submit(ask(4, 5))
    step_until(scheduler, lambda: second.state == "finished")
    assert max(model.decode_rows) == 2, "the second request must join the first one's decode steps"
    assert first.state == "decoding"
    before = len(model.calls)
    finish_all(scheduler)
    assert {rows for rows, _ in model.calls[before + 1 :]} == {1}, "after the second has left, its row is gone"
    assert_alone(toy, first, second)


def test_task_4_only_rows_that_somebody_needs_are_computed(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=4)
    requests = []
    for seed, (max_tokens, eos_at) in enumerate([(30, 29), (2, 1), (50, 8), (4, 3), (17, 16), (40, 2), (50, 1), (11, 10)]):
        eos = alone(toy, make_prompt(5, seed), eos_at + 1)[eos_at]
        requests.append(scheduler.submit(ask(5, max_tokens, seed, eos_token_ids=[eos])))
    finish_all(scheduler)
    tokens = sum(len(request.generated_tokens) for request in requests)
    # An engine that launches ahead computes one row too many for a request that ends by an EOS: one is allowed for each.
    assert sum(model.decode_rows) <= tokens + len(requests), (
        f"{sum(model.decode_rows)} rows were computed for {tokens} tokens: rows of requests that have ended, or of empty slots"
    )


def test_task_4_idle_slots_are_not_computed_in_a_large_batch(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=64)
    request = scheduler.submit(ask(5, 10))
    finish_all(scheduler)
    assert max(model.decode_rows) == 1, "63 of 64 slots are empty: a call has a row for each request, not for each slot"
    assert_alone(toy, request)


def test_task_4_a_long_prompt_stalls_nobody_for_more_than_a_chunk(toy: ToyModel) -> None:
    model = CountingModel(toy)
    computed: list[int] = []
    scheduler = engine(model, slots=3, prefill_step=8)
    talker = scheduler.submit(ask(4, 30, on_update=lambda *_: computed.append(model.prompt_tokens)))
    step_until(scheduler, lambda: len(computed) >= 3)
    readers = [scheduler.submit(ask(48, 3, seed)) for seed in range(2)]
    finish_all(scheduler)
    stalls = [after - before for before, after in pairwise(computed)]
    assert max(stalls) <= 8, (
        f"between two tokens of a decoding request {max(stalls)} prompt tokens were computed: prefill_step is 8, and every"
        " iteration decodes"
    )
    assert_alone(toy, talker, *readers)


def test_task_4_prompts_advance_while_others_decode(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=2, prefill_step=8)
    talker = scheduler.submit(ask(4, 40))
    step_until(scheduler, lambda: len(talker.generated_tokens) == 2)
    reader = scheduler.submit(ask(32, 3))
    step_until(scheduler, lambda: bool(reader.generated_tokens))
    assert len(talker.generated_tokens) <= 2 + 4 + 4, (
        "32 prompt tokens are four chunks of 8, one an iteration: some six tokens of its neighbour later it should speak"
    )


def test_task_4_prompt_tokens_are_computed_once(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(length, 4)) for length in (40, 3, 17, 26)]
    finish_all(scheduler)
    assert model.prompt_tokens <= 40 + 3 + 17 + 26, "a prompt's tokens are computed once and kept in its cache"
    assert_alone(toy, *requests)


# The end of an answer.


@pytest.mark.parametrize("position", [0, 1, 4, 7])
def test_task_4_eos_ends_a_row_and_only_that(toy: ToyModel, position: int) -> None:
    scheduler = engine(toy, slots=3)
    eos = alone(toy, make_prompt(6), 8)[position]
    ender = scheduler.submit(ask(6, 8, eos_token_ids=[eos]))
    others = [scheduler.submit(ask(length, 12)) for length in (3, 11, 5)]
    finish_all(scheduler)
    assert ender.finish_reason == "stop", f"token {position} of its answer is its EOS"
    assert_alone(toy, ender, *others)


@pytest.mark.parametrize("length", [1, 30, 62, 63])
def test_task_4_the_answer_ends_where_the_slot_does(toy: ToyModel, length: int) -> None:
    scheduler = engine(toy, prefill_step=16)
    full, other = scheduler.submit(ask(length, 1000)), scheduler.submit(ask(9, 20))
    finish_all(scheduler)
    assert full.generated_tokens == alone(toy, full.prompt, 64 - length), "prompt and answer have max_seq_len = 64 together"
    assert full.finish_reason == "length"
    assert_alone(toy, other)


@pytest.mark.parametrize("length", [64, 65, 200])
def test_task_4_a_prompt_that_leaves_no_room_is_refused(toy: ToyModel, length: int) -> None:
    scheduler = engine(toy)
    before = scheduler.submit(ask(3, 5))
    with pytest.raises(ValueError):
        scheduler.submit(ask(length, 1))
    after = scheduler.submit(ask(5, 5))
    assert scheduler.run() == [before, after], "the refused request was never part of it"
    assert_alone(toy, before, after)


def test_task_4_a_request_is_submitted_once(toy: ToyModel) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(20, 5))
    with pytest.raises(ValueError):
        scheduler.submit(request)
    for state in ("prefilling", "decoding", "finished"):
        step_until(scheduler, lambda wanted=state: request.state == wanted)
        with pytest.raises(ValueError):
            scheduler.submit(request)
    assert finish_all(scheduler).count(request) <= 1
    assert_alone(toy, request)


def test_task_4_streamed_text_makes_the_whole(toy: ToyModel) -> None:
    tokenizer = ByteTokenizer()
    pieces: dict[int, list[str]] = {}
    scheduler = engine(toy, slots=3)
    requests = [
        scheduler.submit(
            ask(
                4 + seed,
                15,
                seed,
                detokenizer=tokenizer.detokenizer(),
                on_update=lambda r, new_text: pieces.setdefault(r.request_id, []).append(new_text),
            )
        )
        for seed in range(5)
    ]
    finish_all(scheduler)
    for request in requests:
        assert request.text == tokenizer.decode(alone(toy, request.prompt, 15))
        assert "".join(pieces[request.request_id]) == request.text, "the pieces of on_update must add up to the text"


def test_task_4_stop_strings(toy: ToyModel) -> None:
    tokenizer = ByteTokenizer()
    text = tokenizer.decode(alone(toy, make_prompt(6), 20))
    stop = text[5:8]
    scheduler = engine(toy)
    stopper = scheduler.submit(ask(6, 20, stop=[stop], detokenizer=tokenizer.detokenizer()))
    other = scheduler.submit(ask(9, 20))
    finish_all(scheduler)
    assert (stopper.text, stopper.finish_reason) == (text[: text.find(stop)], "stop"), f"{stop!r} is spread over three tokens"
    assert_alone(toy, other)


# Sampling.


def test_task_4_everyone_samples_in_his_own_way(toy: ToyModel) -> None:
    wanted = [
        answer.SamplingParams(),
        answer.SamplingParams(temperature=3, seed=1),
        answer.SamplingParams(temperature=3, seed=2),
        answer.SamplingParams(temperature=4, top_k=5, seed=1),
        answer.SamplingParams(temperature=2, repetition_penalty=1.4, seed=3),
    ]
    together = [ask(6, 16, sampling=sampling) for sampling in wanted]
    scheduler = engine(toy, slots=4)
    for request in together:
        scheduler.submit(request)
    finish_all(scheduler)
    apart = [ask(6, 16, sampling=sampling) for sampling in wanted]
    for request in apart:
        scheduler = engine(toy, slots=1)
        scheduler.submit(request)
        finish_all(scheduler)
    for sampling, one, other in zip(wanted, together, apart, strict=True):
        assert one.generated_tokens == other.generated_tokens, (
            f"{sampling} draws other tokens in company than alone: its random numbers must be its own"
        )
    answers = {tuple(request.generated_tokens) for request in together}
    assert len(answers) == len(wanted), "the same prompt, but five ways to sample: is everyone's own sampling used?"
    assert_alone(toy, together[0])


def test_task_4_repetition_penalty_in_a_batch(toy: ToyModel) -> None:
    penalties = (1.0, 1.3, 2.0)
    scheduler = engine(toy, slots=3)
    requests = [
        scheduler.submit(ask(8, 20, sampling=answer.SamplingParams(repetition_penalty=penalty))) for penalty in penalties
    ]
    finish_all(scheduler)
    for request, penalty in zip(requests, penalties, strict=True):
        assert request.generated_tokens == alone(toy, make_prompt(8), 20, penalty=penalty), (
            f"with repetition_penalty={penalty}: tokens of its own prompt and answer are less likely, nobody else's"
        )


@pytest.mark.parametrize("delivered", [1, 4, 11])
def test_task_4_an_answer_can_be_continued_elsewhere(toy: ToyModel, delivered: int) -> None:
    sampling = answer.SamplingParams(temperature=3, repetition_penalty=1.2, seed=5)
    scheduler = engine(toy)
    whole = scheduler.submit(ask(6, 16, sampling=sampling))
    scheduler.submit(ask(9, 12, seed=1, sampling=sampling))
    finish_all(scheduler)
    scheduler = engine(toy, slots=3)
    rest = scheduler.submit(answer.Request(whole.tokens[: 6 + delivered], 16 - delivered, sampling))
    finish_all(scheduler)
    assert rest.generated_tokens == whole.generated_tokens[delivered:], (
        "a draw follows from the seed, the position and the tokens before it, so another engine that is given these goes on"
        " with the same tokens"
    )


def test_task_4_the_first_token_is_drawn_like_any_other(toy: ToyModel) -> None:
    firsts = set()
    for seed in range(12):
        scheduler = engine(toy)
        request = scheduler.submit(ask(6, 1, sampling=answer.SamplingParams(temperature=5, seed=seed)))
        finish_all(scheduler)
        firsts.add(request.generated_tokens[0])
    assert len(firsts) > 3, "the token that comes from the prefill is sampled, too"


# Requests that come and go at any time.


@pytest.mark.parametrize("state", ["waiting", "prefilling", "decoding", "finished"])
def test_task_4_cancel(toy: ToyModel, state: str) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    neighbours = [scheduler.submit(ask(4, 20)), scheduler.submit(ask(4, 6, seed=1))]
    victim = scheduler.submit(ask(20, 8))
    step_until(scheduler, lambda: victim.state == state)
    kept = list(victim.generated_tokens)
    scheduler.cancel(victim)
    scheduler.cancel(victim)  # once more does no harm
    assert (victim.state, victim.generated_tokens) == ("finished", kept)
    assert victim.finish_reason == ("length" if state == "finished" else "cancelled"), "what has finished stays as it is"
    ended = finish_all(scheduler)
    assert victim.generated_tokens == kept == alone(toy, victim.prompt, 8)[: len(kept)], "no token comes after the end"
    assert ended.count(victim) == (0 if state == "finished" else 1), "step returns a request once: here, or before"
    assert_alone(toy, *neighbours)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_a_cancelled_request_makes_room_at_once(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=1)
    first, second = scheduler.submit(ask(4, 50)), scheduler.submit(ask(4, 5, seed=1))
    step_until(scheduler, lambda: len(first.generated_tokens) == 3)
    scheduler.cancel(first)
    model.calls.clear()
    finish_all(scheduler)
    assert_alone(toy, second)
    assert sum(model.decode_rows) <= 5 + 1, "the cancelled request's row must not be computed any more"


def test_task_4_cancel_when_the_last_token_is_on_its_way(toy: ToyModel) -> None:
    for steps in range(1, 8):
        model = CountingModel(toy)
        scheduler = engine(model)
        request, other = scheduler.submit(ask(4, 3)), scheduler.submit(ask(5, 9))
        ended = [found for _ in range(steps) for found in scheduler.step()]
        scheduler.cancel(request)
        ended += finish_all(scheduler)
        assert sorted(found.request_id for found in ended) == [request.request_id, other.request_id], (
            f"cancelled after {steps} steps: everyone is returned, and once"
        )
        assert request.generated_tokens == alone(toy, request.prompt, 3)[: len(request.generated_tokens)]
        assert_alone(toy, other)
        assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_cancel_of_all(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    requests = [scheduler.submit(ask(length, 9)) for length in (4, 30, 5, 6)]
    for _ in range(3):
        scheduler.step()
    for request in requests:
        scheduler.cancel(request)
    finish_all(scheduler)
    assert [request.state for request in requests] == ["finished"] * 4
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_cancel_of_a_refused_request_harms_nobody(toy: ToyModel) -> None:
    scheduler = engine(toy)
    served, refused = scheduler.submit(ask(3, 5)), ask(100, 1)
    with pytest.raises(ValueError):
        scheduler.submit(refused)
    scheduler.cancel(refused)  # as a server does when its client has gone, whatever became of the request
    finish_all(scheduler)
    assert_alone(toy, served)


def test_task_4_a_request_may_cancel_itself(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    updates: list[str] = []

    def enough(request: Any, new_text: str) -> None:
        updates.append(request.state)
        if len(request.generated_tokens) == 3:
            scheduler.cancel(request)

    quitter, other = scheduler.submit(ask(4, 20, on_update=enough)), scheduler.submit(ask(6, 12))
    ended = finish_all(scheduler)
    assert (quitter.finish_reason, len(quitter.generated_tokens)) == ("cancelled", 3)
    assert updates[-1] == "finished", "on_update hears of the end"
    assert ended.count(quitter) == 1, "it ended once, so step returns it once"
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_a_step_in_the_update_of_a_cancel_is_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)

    def step(request: Any, new_text: str) -> None:
        if request.state == "finished":
            scheduler.step()

    stepper, other = scheduler.submit(ask(4, 30, on_update=step)), scheduler.submit(ask(6, 12))
    step_until(scheduler, lambda: len(stepper.generated_tokens) == 2)
    scheduler.cancel(stepper)
    ended = finish_all(scheduler, after_step=scheduler.check_integrity)
    assert isinstance(stepper.error, RuntimeError), (
        "its slot is not free yet when it hears of its end: no iteration may run then"
    )
    assert sorted(found.request_id for found in ended) == [stepper.request_id, other.request_id]
    assert_alone(toy, other)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("killer", [0, 1])
def test_task_4_a_request_may_cancel_another(toy: ToyModel, killer: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests: list[Any] = []

    def kill(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.cancel(requests[1 - killer])

    for row in range(2):
        requests.append(scheduler.submit(ask(4, 12, row, on_update=kill if row == killer else None)))
    requests.append(scheduler.submit(ask(7, 12)))
    ended = finish_all(scheduler)
    victim = requests[1 - killer]
    assert victim.finish_reason == "cancelled"
    assert victim.generated_tokens == alone(toy, victim.prompt, 12)[: len(victim.generated_tokens)]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in requests]
    assert_alone(toy, requests[killer], requests[2])
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("max_tokens", [1, 2, 3, 4, 5])
def test_task_4_cancelling_another_whose_last_token_is_there(toy: ToyModel, max_tokens: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    requests: list[Any] = []

    def kill(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            scheduler.cancel(requests[1])

    requests.append(scheduler.submit(ask(4, 6, on_update=kill)))
    requests.append(scheduler.submit(ask(4, max_tokens, seed=1)))
    ended = finish_all(scheduler)
    assert sorted(found.request_id for found in ended) == [request.request_id for request in requests], (
        "everyone is returned, and once: also who is cancelled between its last step and its last token"
    )
    assert requests[1].generated_tokens == alone(toy, requests[1].prompt, 5)[: len(requests[1].generated_tokens)]
    assert len(scheduler.metrics.values("latency")) == 2, "the metrics hear of every end"
    assert_alone(toy, requests[0])
    assert_can_still_serve(scheduler, model, toy, slots=2)


def test_task_4_an_answer_may_lead_to_the_next_question(toy: ToyModel) -> None:
    scheduler = engine(toy)
    chain: list[Any] = []

    def next_question(request: Any, new_text: str) -> None:
        if request.state == "finished" and len(chain) < 5:
            chain.append(scheduler.submit(answer.Request(request.tokens[-6:], 4, on_update=next_question)))

    chain.append(scheduler.submit(ask(4, 4, on_update=next_question)))
    neighbour = scheduler.submit(ask(6, 25))
    finish_all(scheduler)
    assert len(chain) == 5, "submit works from within on_update, and run goes on until nobody is left"
    assert_alone(toy, neighbour, *chain)


# What goes wrong stays with those whom it concerns.


@pytest.mark.parametrize("position", [1, 2, 12])
def test_task_4_a_failing_on_update_ends_its_request_only(toy: ToyModel, position: int) -> None:
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


def test_task_4_a_failing_last_update_of_a_cancelled_request(toy: ToyModel) -> None:
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
def test_task_4_a_prompt_on_which_the_model_fails(toy: ToyModel, late: bool, place: int) -> None:
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
def test_task_4_the_model_fails_while_decoding(toy: ToyModel, late: bool) -> None:
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


def test_task_4_a_failure_of_the_device_is_not_silent(toy: ToyModel) -> None:
    foreign = ForeignModel(toy)
    model = CountingModel(foreign)
    scheduler = engine(model)
    running = [scheduler.submit(ask(4, 30)), scheduler.submit(ask(7, 30))]
    waiting = scheduler.submit(ask(5, 6))
    step_until(scheduler, lambda: all(request.generated_tokens for request in running))
    foreign.broken = True
    ended = scheduler.step()
    foreign.broken = False
    ended += finish_all(scheduler, after_step=scheduler.check_integrity)
    for request in running:
        assert request.finish_reason == "error", "its tokens can never be computed: it ends, and does not wait for ever"
        assert request.error is not None
        assert request.generated_tokens == alone(toy, request.prompt, 30)[: len(request.generated_tokens)]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in (*running, waiting)]
    assert_alone(toy, waiting)
    assert_can_still_serve(scheduler, model, toy, slots=2)


@pytest.mark.parametrize("place", [0, 2, 5])
def test_task_4_logits_that_say_nothing_are_an_error(toy: ToyModel, place: int) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    scheduler = engine(sick, slots=2)
    neighbour = scheduler.submit(ask(4, 40))
    prompt = make_prompt(6)
    prompt[place] = POISON
    victim = scheduler.submit(answer.Request(prompt, 10))
    successors = [scheduler.submit(ask(1, 6, seed)) for seed in range(3)]
    finish_all(scheduler, after_step=scheduler.check_integrity)
    assert (victim.finish_reason, victim.generated_tokens) == ("error", []), "NaN is no token, not even token 0"
    assert "NaN" in str(victim.error), "the error says what was wrong"
    assert_alone(toy, neighbour)
    for successor in successors:
        assert successor.finish_reason == "length", (
            "it owns the slot after the victim: what a mask hides is multiplied by 0, and 0 times NaN is NaN"
        )
    assert_alone(toy, *successors)


def test_task_4_infinite_logits_are_an_error(toy: ToyModel) -> None:
    sick = ToyModel()
    scheduler = engine(sick, slots=2)
    request = scheduler.submit(ask(4, 9))
    step_until(scheduler, lambda: len(request.generated_tokens) == 2)
    sick.only_printable = mx.full(sick.only_printable.shape, -mx.inf)  # all tokens are ruled out
    finish_all(scheduler, after_step=scheduler.check_integrity)
    assert request.finish_reason == "error"
    sick.only_printable = toy.only_printable
    after = scheduler.submit(ask(7, 9))
    finish_all(scheduler)
    assert_alone(toy, after)


# What interrupts an iteration.


class Interruption(BaseException):
    """Like Ctrl-C: no Exception, so that nobody who catches those stops it."""


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("decoding", [False, True])
def test_task_4_an_interrupted_iteration(toy: ToyModel, late: bool, decoding: bool) -> None:
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
    with pytest.raises(Interruption):
        finish_all(scheduler)
    armed = False
    assert [type(request.error) for request in running] == [Interruption] * 2, "those that ran end with what interrupted them"
    ended = finish_all(scheduler, after_step=scheduler.check_integrity)
    everyone = [*running, *waiting]
    assert sorted(found.request_id for found in ended) == [request.request_id for request in everyone], "nobody is lost"
    for request in everyone:
        assert request.error is None or isinstance(request.error, Interruption)
        answer_alone = alone(toy, request.prompt, request.max_tokens)
        assert request.generated_tokens == answer_alone[: len(request.generated_tokens)]
    assert_can_still_serve(scheduler, model, toy, slots=3)


@pytest.mark.parametrize("position", [1, 3, 9])
def test_task_4_an_interrupted_update(toy: ToyModel, position: int) -> None:
    def interrupt(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == position:
            raise Interruption

    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(4, 9, on_update=interrupt)), scheduler.submit(ask(7, 30, seed=1))]
    with pytest.raises(Interruption):
        finish_all(scheduler)
    ended = finish_all(scheduler, after_step=scheduler.check_integrity)
    assert sorted(found.request_id for found in ended) == [request.request_id for request in requests], "nobody is lost"
    assert isinstance(requests[1].error, Interruption), "it ran when the iteration was interrupted"
    assert_can_still_serve(scheduler, model, toy, slots=3)


def test_task_4_a_step_within_a_step_is_refused(toy: ToyModel) -> None:
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


def test_task_4_an_engine_works_in_any_one_thread(toy: ToyModel) -> None:
    def serve() -> list[Any]:
        scheduler = engine(toy)
        requests = [scheduler.submit(ask(4 + seed, 9, seed)) for seed in range(4)]
        finish_all(scheduler)
        return requests

    with ThreadPoolExecutor(1) as elsewhere:
        assert_alone(toy, *elsewhere.submit(serve).result())


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_4_a_model_made_in_one_thread_serves_in_another(toy: ToyModel, architecture: str) -> None:
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


def test_task_4_an_engine_refuses_a_second_thread(toy: ToyModel) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(4, 9))
    scheduler.step()
    with ThreadPoolExecutor(1) as elsewhere, pytest.raises(RuntimeError):
        elsewhere.submit(scheduler.step).result()
    finish_all(scheduler)
    assert_alone(toy, request)


# The plan of an iteration.

FIRST = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[:count])


def at(length: int, offset: int = 0) -> Any:
    """A request whose prompt has `length` tokens, `offset` of which (or more) are computed."""
    request = answer.Request([1] * length, 5)
    request.offset = offset
    return request


def test_task_4_a_plan_for_nobody() -> None:
    plan = answer.plan_step([], [], 4, 8, FIRST)
    assert (list(plan.prefill), list(plan.decode)) == ([], [])


def test_task_4_everyone_who_decodes_gets_a_token() -> None:
    decoding = [at(5, 5), at(3, 9)]
    plan = answer.plan_step([at(4)], [decoding[0], at(30, 16), decoding[1]], 3, 8, FIRST)
    assert list(plan.decode) == decoding, "decoding requests, and only those, whatever is prefilled beside"


def test_task_4_a_prompt_is_continued_before_another_begins() -> None:
    halfway, newcomer = at(30, 16), at(4)
    plan = answer.plan_step([newcomer], [halfway], 4, 8, FIRST)
    assert [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill] == [(halfway, 16, 24)], (
        "8 tokens an iteration, and they belong to the prompt that has begun"
    )


def test_task_4_the_strategy_chooses_who_is_admitted() -> None:
    last = SimpleNamespace(choose=lambda waiting, running, count: list(waiting)[::-1][:count])
    queue = [at(20), at(21), at(22)]
    plan = answer.plan_step(queue, [], 4, 8, last)
    assert [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill] == [(queue[2], 0, 8)]


def test_task_4_nobody_is_admitted_without_a_slot() -> None:
    plan = answer.plan_step([at(4)], [at(5, 5), at(3, 9)], 2, 8, FIRST)
    assert list(plan.prefill) == [], "both slots are taken"


@settings(max_examples=200)
@given(
    queue=st.lists(st.integers(1, 20), max_size=5),
    running=st.lists(st.integers(0, 12), max_size=5),
    halfway=st.none() | st.tuples(st.integers(1, 10), st.integers(1, 10)),
    free=st.integers(0, 3),
    prefill_step=st.integers(1, 12),
)
def test_task_4_the_rules_of_a_plan(
    queue: list[int], running: list[int], halfway: tuple[int, int] | None, free: int, prefill_step: int
) -> None:
    waiting = [at(length) for length in queue]
    decoding = [at(3, 3 + extra) for extra in running]
    begun = [at(sum(halfway), halfway[0])] if halfway else []
    max_slots = max(1, len(decoding) + len(begun) + free)
    before = list(waiting)
    plan = answer.plan_step(waiting, [*decoding, *begun], max_slots, prefill_step, FIRST)

    chunks = list(plan.prefill)
    assert waiting == before, "a plan changes nothing: whoever runs it moves the requests"
    assert list(plan.decode) == decoding
    assert sum(chunk.end - chunk.start for chunk in chunks) <= prefill_step, "more prompt tokens than an iteration may compute"
    for chunk in chunks:
        assert chunk.start == chunk.request.offset, "a chunk begins where the last one ended"
        assert chunk.start < chunk.end <= len(chunk.request.prompt)
    admitted = [chunk.request for chunk in chunks if chunk.request in waiting]
    assert len({id(chunk.request) for chunk in chunks}) == len(chunks)
    assert len(decoding) + len(begun) + len(admitted) <= max_slots, "a request is admitted only if a slot will be free for it"
    ends = {id(chunk.request): chunk.end for chunk in chunks}
    unfinished = [r for r in [*begun, *admitted] if ends.get(id(r), r.offset) < len(r.prompt)]
    assert len(unfinished) <= 1, "at most one request is in the middle of its prompt"
    if begun or (waiting and free):
        assert chunks, "there is a prompt to compute and a slot for it: an iteration without a chunk is lost"
