"""Task 4, third part: the engine. Requests join and leave a running batch."""

from itertools import pairwise

import pytest

from day6_engines import ask, ask_with_eos, assert_returned, engine
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, finish_all, make_prompt, refuses, step_until
from tiny_llm_kit.models.tiny_random import ByteTokenizer


@pytest.mark.parametrize("length", [1, 7, 8, 9, 16, 30])
@pytest.mark.parametrize("max_tokens", [1, 2, 9])
def test_task_4_engine_one_request(toy: ToyModel, length: int, max_tokens: int) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(length, max_tokens))
    assert_returned(finish_all(scheduler), request)
    assert_alone(toy, request)


def test_task_4_engine_rows_of_different_lengths(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=4)
    requests = [scheduler.submit(ask(length, 10)) for length in (1, 25, 8, 3)]
    finish_all(scheduler)
    assert_alone(toy, *requests)


def test_task_4_engine_more_requests_than_slots(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(2 + 3 * i, 3 + (5 * i) % 11)) for i in range(10)]
    assert_returned(finish_all(scheduler), *requests)
    assert_alone(toy, *requests)
    assert max(model.decode_rows, default=0) == 3, "three slots: three rows at most, and three while enough requests are there"


def test_task_4_engine_a_row_never_sees_what_an_earlier_owner_left(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=1)
    requests = [scheduler.submit(ask(length, max_tokens)) for length, max_tokens in ((40, 20), (2, 5), (30, 2), (1, 9))]
    finish_all(scheduler)
    assert_alone(toy, *requests)


def test_task_4_engine_every_state_in_turn(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=1)
    first, second = scheduler.submit(ask(20, 5)), scheduler.submit(ask(20, 5))
    seen: list[str] = []
    for _ in range(100):
        if not seen or seen[-1] != second.state:
            seen.append(second.state)
        if not scheduler.has_work:
            break
        scheduler.step()
        assert second.offset <= len(second.tokens) + 1, (
            "`offset` counts tokens that are known or on their way, and one that joins in the iteration of its prompt's end"
            " has two on their way at most"
        )
        assert second.offset <= 24, "20 prompt tokens and 5 of the answer: the last one's keys and values are never asked for"
    assert seen == ["waiting", "prefilling", "decoding", "finished"], "in this order, each once; its prompt takes 3 chunks"
    assert first.state == "finished", "with one slot the second begins when the first has launched its last token"


def test_task_4_engine_has_work_until_all_is_returned(toy: ToyModel) -> None:
    scheduler = engine(toy)
    assert not scheduler.has_work, "nothing has been submitted yet"
    request = scheduler.submit(ask(3, 2))
    assert scheduler.has_work, "a request waits"
    assert_returned(finish_all(scheduler), request)
    assert scheduler.run() == [], "all has been returned: nothing twice"


def test_task_4_engine_an_idle_step_costs_nothing(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    scheduler.submit(ask(3, 2))
    finish_all(scheduler)
    calls = len(model.calls)
    assert scheduler.step() == [], "all has been returned: nothing twice"
    assert len(model.calls) == calls, "without a request the model is not called"


def test_task_4_engine_a_second_wave(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    for wave in range(3):
        requests = [scheduler.submit(ask(5 + 4 * seed, 6 - wave, seed)) for seed in range(5)]
        assert set(scheduler.run()) == set(requests), "run returns the requests of this wave, each once"
        assert_alone(toy, *requests)


def test_task_4_engine_who_comes_later_does_not_wait_for_a_group(toy: ToyModel) -> None:
    scheduler = engine(CountingModel(toy))
    long, short = scheduler.submit(ask(4, 30)), scheduler.submit(ask(4, 3, seed=1))
    third = scheduler.submit(ask(4, 3, seed=2))
    step_until(scheduler, lambda: third.state == "finished")
    assert long.state == "decoding", "the third request can have the second one's slot while the first still runs"
    assert short.state == "finished", "the third can only have had the short one's slot"
    finish_all(scheduler)
    assert_alone(toy, long, short, third)


def test_task_4_engine_who_comes_while_others_run_joins_them(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model)
    first = scheduler.submit(ask(4, 30))
    step_until(scheduler, lambda: len(first.generated_tokens) == 3)
    assert max(model.decode_rows, default=0) == 1, "one request decodes: calls of one row"
    second = scheduler.submit(ask(4, 5))
    step_until(scheduler, lambda: second.state == "finished")
    assert max(model.decode_rows, default=0) == 2, "the second request must join the first one's decode steps"
    assert first.state == "decoding", "it has 30 tokens to generate, and its neighbour had 5"
    before = len(model.calls)
    finish_all(scheduler)
    assert {rows for rows, _ in model.calls[before + 1 :]} == {1}, "after the second has left, its row is gone"
    assert_alone(toy, first, second)


def test_task_4_engine_only_rows_that_somebody_needs_are_computed(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=4)
    ends = [(30, 29), (2, None), (50, 8), (4, 3), (17, None), (40, 2), (50, 1), (1, None), (11, None)]
    requests = [
        ask(5, max_tokens, seed) if position is None else ask_with_eos(toy, 5, position, max_tokens, seed)
        for seed, (max_tokens, position) in enumerate(ends)
    ]
    text = ByteTokenizer().decode(alone(toy, make_prompt(6, 20), 20))
    requests.append(ask(6, 20, 20, stop=[text[6:9]], detokenizer=ByteTokenizer().detokenizer()))
    for request in requests:
        scheduler.submit(request)
    finish_all(scheduler)
    expect_no_error(*requests)
    assert_alone(toy, *requests[:-1])
    # A prompt's end yields the first token, and a row each of the others; an EOS is a token, too, though it is not kept.
    rows = 0
    for request, (max_tokens, position) in zip(requests, [*ends, (20, None)], strict=True):
        drawn = len(request.generated_tokens) + (position is not None)
        too_late = request.finish_reason == "stop"  # who launches ahead has launched one more, if there was one more to launch
        rows += min(drawn - 1 + too_late, max_tokens - 1)
    assert sum(model.decode_rows) <= rows, (
        f"{sum(model.decode_rows)} rows were computed, and {rows} are enough: a row for each token after the first, and one for"
        " each end by EOS or stop string. Look for rows of requests that have ended, or that have launched all their tokens"
    )


def test_task_4_engine_computes_the_picture(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=2)
    requests = [scheduler.submit(ask(3, max_tokens, seed)) for seed, max_tokens in enumerate([9, 2, 2, 8, 2, 3])]
    steps = 0
    while scheduler.has_work:
        steps += 1
        assert steps <= 15, "14 iterations compute, and one more reads: see the picture of six requests on the day's first page"
        scheduler.step()
    assert_alone(toy, *requests)
    assert sum(model.decode_rows) == 20, "26 tokens, 6 of which come from prompts: 20 rows, as the first prediction says"


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_task_4_engine_a_slot_is_used_again_in_the_next_iteration(toy: ToyModel, slots: int) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots)
    requests = [scheduler.submit(ask(2, 2 + seed % 4, seed)) for seed in range(9)]

    def check() -> None:
        places = sum(model.decode_rows) + sum(length > 1 for _, length in model.calls)
        model.calls.clear()
        assert places >= slots or not scheduler.waiting, (
            f"{places} of {slots} slots are used while a request waits whose prompt would fit: a slot is free in the iteration"
            " after the one that launched its owner's last token"
        )

    finish_all(scheduler, after_step=check)
    assert_alone(toy, *requests)


def test_task_4_engine_decodes_all_in_one_call(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=4)
    requests = [scheduler.submit(ask(2 + length, 12, length)) for length in range(6)]

    def check() -> None:
        rows = model.decode_rows
        model.calls.clear()
        assert len(rows) <= 1, f"decode calls of {rows} rows in one iteration: one call serves all who decode"

    finish_all(scheduler, after_step=check)
    assert_alone(toy, *requests)


def test_task_4_engine_cuts_prompts_as_planned(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(length, 2)) for length in (20, 12, 7)]
    finish_all(scheduler)
    assert [length for length in model.lengths if length > 1] == [8, 8, 4, 8, 4, 7], (
        "20 tokens are 8, 8 and 4, and 12 do not fit into the other 4; then 8 and 4, and 7 do not fit; then 7"
    )
    assert_alone(toy, *requests)


def test_task_4_engine_idle_slots_are_not_computed_in_a_large_batch(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=64)
    request = scheduler.submit(ask(5, 10))
    finish_all(scheduler)
    assert max(model.decode_rows, default=0) == 1, (
        "63 of 64 slots are empty: a call has a row for each request, not for each slot"
    )
    assert_alone(toy, request)


def test_task_4_engine_a_long_prompt_stalls_nobody_for_more_than_a_chunk(toy: ToyModel) -> None:
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


@pytest.mark.parametrize("max_tokens", [2, 9])
def test_task_4_engine_gives_a_request_s_own_cache_back_when_it_joins(toy: ToyModel, max_tokens: int) -> None:
    scheduler = engine(toy)
    scheduler.submit(ask(4, 20, seed=1))
    request = scheduler.submit(ask(20, max_tokens))
    step_until(scheduler, lambda: request.state == "prefilling")
    assert request.kv_cache is not None, "a prompt is read into a cache of the request's own"
    step_until(scheduler, lambda: request.state == "decoding")
    assert request.kv_cache is None, "in its slot is a copy of its keys and values: the cache of its own is given up"
    finish_all(scheduler)
    assert_alone(toy, request)


def test_task_4_engine_a_single_token_takes_no_slot(toy: ToyModel) -> None:
    scheduler = engine(toy)
    neighbour, request = scheduler.submit(ask(3, 9)), scheduler.submit(ask(4, 1, seed=1))
    step_until(scheduler, lambda: request.offset == 4)
    assert request.request_id not in scheduler.slots.slot_of, (
        "the end of its prompt has launched all that it wants, so it takes part in no decode call: with a slot, its keys and"
        " values would be copied in every layer for nothing"
    )
    finish_all(scheduler)
    assert_alone(toy, neighbour, request)


@pytest.mark.parametrize("end", ["max_tokens", "a single token", "EOS", "EOS at once"])
def test_task_4_engine_nobody_holds_a_cache_after_the_end(toy: ToyModel, end: str) -> None:
    scheduler = engine(toy)
    request = {
        "max_tokens": ask(9, 4),
        "a single token": ask(9, 1),
        "EOS": ask_with_eos(toy, 9, 3, 20),
        "EOS at once": ask_with_eos(toy, 9, 0, 20),
    }[end]
    scheduler.submit(ask(3, 12, seed=1))
    scheduler.submit(request)
    finish_all(scheduler)
    assert request.kv_cache is None, f"it has ended by {end}: a request that has ended holds no keys and values"
    assert_alone(toy, request)


def test_task_4_engine_prompts_advance_while_others_decode(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=2, prefill_step=8)
    talker = scheduler.submit(ask(4, 40))
    step_until(scheduler, lambda: len(talker.generated_tokens) == 2)
    reader = scheduler.submit(ask(32, 3))
    step_until(scheduler, lambda: bool(reader.generated_tokens))
    assert len(talker.generated_tokens) <= 2 + 4 + 4, (
        "32 prompt tokens are four chunks of 8, one an iteration: some six tokens of its neighbour later it should speak"
    )


def test_task_4_engine_prompt_tokens_are_computed_once(toy: ToyModel) -> None:
    model = CountingModel(toy)
    scheduler = engine(model, slots=3)
    requests = [scheduler.submit(ask(length, 4)) for length in (40, 3, 17, 26)]
    finish_all(scheduler)
    assert model.prompt_tokens <= 40 + 3 + 17 + 26, "a prompt's tokens are computed once and kept in its cache"
    assert_alone(toy, *requests)


@pytest.mark.parametrize("position", [0, 1, 4, 7])
def test_task_4_engine_eos_ends_a_row_and_only_that(toy: ToyModel, position: int) -> None:
    scheduler = engine(toy, slots=3)
    eos = alone(toy, make_prompt(6), 8)[position]
    ender = scheduler.submit(ask(6, 8, eos_token_ids=[eos]))
    others = [scheduler.submit(ask(length, 12)) for length in (3, 11, 5)]
    finish_all(scheduler)
    assert ender.finish_reason == "stop", f"token {position} of its answer is its EOS"
    assert_alone(toy, ender, *others)


@pytest.mark.parametrize("length", [1, 30, 62, 63])
def test_task_4_engine_the_answer_ends_where_the_slot_does(toy: ToyModel, length: int) -> None:
    scheduler = engine(toy, prefill_step=16)
    full, other = scheduler.submit(ask(length, 1000)), scheduler.submit(ask(9, 20))
    finish_all(scheduler)
    expect_no_error(full)
    assert full.generated_tokens == alone(toy, full.prompt, 64 - length), "prompt and answer have max_seq_len = 64 together"
    assert full.finish_reason == "length", "the slot is full: an end by length"
    assert_alone(toy, other)


def test_task_4_engine_fills_slots_to_their_end(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    lengths = (60, 3, 33, 63, 1, 50, 12)
    requests = [scheduler.submit(ask(length, 64 - length, seed)) for seed, length in enumerate(lengths)]
    finish_all(scheduler)
    assert [request.finish_reason for request in requests] == ["length"] * 7, (
        "prompt and answer of each fill a slot of max_seq_len = 64 exactly: that is not too long, whatever the other slots hold"
    )
    assert_alone(toy, *requests)


@pytest.mark.parametrize("length", [64, 65, 200])
def test_task_4_engine_a_prompt_that_leaves_no_room_is_refused(toy: ToyModel, length: int) -> None:
    scheduler = engine(toy)
    before = scheduler.submit(ask(3, 5))
    with refuses(ValueError, f"submit, of a prompt of {length} tokens where max_seq_len is 64"):
        scheduler.submit(ask(length, 1))
    after = scheduler.submit(ask(5, 5))
    assert scheduler.run() == [before, after], "the refused request was never part of it"
    assert_alone(toy, before, after)


def test_task_4_engine_a_request_is_submitted_once(toy: ToyModel) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(20, 5))
    with refuses(ValueError, "submit, of a request that waits already"):
        scheduler.submit(request)
    for state in ("prefilling", "decoding", "finished"):
        step_until(scheduler, lambda wanted=state: request.state == wanted)
        with refuses(ValueError, f"submit, of a request that is {state} already"):
            scheduler.submit(request)
    assert finish_all(scheduler).count(request) <= 1, "refusing it a second time must not queue it a second time"
    assert_alone(toy, request)


def test_task_4_engine_streamed_text_makes_the_whole(toy: ToyModel) -> None:
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
        expect_no_error(request)
        assert request.text == tokenizer.decode(alone(toy, request.prompt, 15)), "`text` is the text of all its tokens"
        assert "".join(pieces[request.request_id]) == request.text, "the pieces of on_update must add up to the text"


def test_task_4_engine_stop_strings(toy: ToyModel) -> None:
    tokenizer = ByteTokenizer()
    text = tokenizer.decode(alone(toy, make_prompt(6), 20))
    stop = text[5:8]
    scheduler = engine(toy)
    stopper = scheduler.submit(ask(6, 20, stop=[stop], detokenizer=tokenizer.detokenizer()))
    other = scheduler.submit(ask(9, 20))
    finish_all(scheduler)
    expect_no_error(stopper)
    assert (stopper.text, stopper.finish_reason) == (text[: text.find(stop)], "stop"), f"{stop!r} is spread over three tokens"
    assert_alone(toy, other)
