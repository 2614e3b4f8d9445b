"""Week 3 Day 4, task 6: the engine. Requests share blocks, a budget of tokens, and one call of the model."""

from typing import Any

import pytest

from answer import answer
from day6_engines import assert_beginning, assert_returned
from paged_engines import (
    ask,
    ask_with_eos,
    assert_can_still_serve,
    assert_nothing_is_lost,
    engine,
    serve,
    tokens_per_step,
)
from support import CountingModel, ToyModel, alone, assert_alone, expect_no_error, finish_all, make_prompt, refuses, step_until


@pytest.mark.parametrize("length", [1, 3, 4, 5, 12, 13, 30])
@pytest.mark.parametrize("max_tokens", [1, 2, 9])
def test_task_6_engine_one_request(toy: ToyModel, length: int, max_tokens: int) -> None:
    request = ask(length, max_tokens)
    assert_returned(serve(engine(toy), request), request)
    assert_alone(toy, request)


@pytest.mark.parametrize("block_size", [1, 3, 16])
def test_task_6_engine_blocks_of_any_size(toy: ToyModel, block_size: int) -> None:
    requests = [ask(length, 7, length) for length in (1, 15, 16, 17, 4)]
    serve(engine(toy, block_size=block_size, num_blocks=128 // block_size), *requests)
    assert_alone(toy, *requests)


def test_task_6_engine_requests_of_different_lengths(toy: ToyModel) -> None:
    requests = [ask(length, 10) for length in (1, 25, 8, 3)]
    serve(engine(toy), *requests)
    assert_alone(toy, *requests)


def test_task_6_engine_more_requests_than_may_run(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=3)
    requests = [ask(2 + 3 * i, 3 + (5 * i) % 11) for i in range(10)]
    assert_returned(serve(served, *requests), *requests)
    assert_alone(toy, *requests)
    assert_can_still_serve(served, toy)


def test_task_6_engine_a_pool_that_is_too_small_for_all_of_them(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=10)
    requests = [ask(5 + i, 12, i) for i in range(6)]
    assert_returned(serve(served, *requests), *requests)
    assert_alone(toy, *requests)
    assert_can_still_serve(served, toy)


def test_task_6_engine_one_call_for_each_step(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model)
    requests = [served.submit(ask(length, 9, length)) for length in (4, 30, 3, 17, 8, 2)]
    steps = tokens_per_step(model, served)
    assert_alone(toy, *requests)
    assert max(steps) <= 12, f"max_num_batched_tokens is 12, and a step gave the model {max(steps)}"
    assert steps[0] == 12, f"64 prompt tokens wait, and the first step took {steps[0]} of them: the budget is 12"
    total = sum(len(request.prompt) + 9 - 1 for request in requests)
    assert sum(steps) == total, (
        f"{sum(steps)} tokens were given to the model, and {total} are what it takes: each prompt, and all tokens"
        " of each answer but the last"
    )


def test_task_6_engine_a_long_prompt_stalls_nobody(toy: ToyModel) -> None:
    served = engine(toy)
    talker = served.submit(ask(4, 30))
    step_until(served, lambda: len(talker.generated_tokens) == 2)
    reader = served.submit(ask(60, 3))
    before = len(talker.generated_tokens)
    steps = 0
    while not reader.generated_tokens:
        served.step()
        steps += 1
        assert steps < 20, "60 prompt tokens are six steps of at most 11, alongside one decode"
        assert len(talker.generated_tokens) == before + steps, (
            "a request that decodes gets a token in every step, come what may"
        )
    finish_all(served)
    assert_alone(toy, talker, reader)


def test_task_6_engine_who_comes_later_does_not_wait_for_a_group(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=2)
    long, short, third = (served.submit(ask(4, tokens, tokens)) for tokens in (30, 3, 4))
    step_until(served, lambda: third.state == "finished")
    assert (long.state, short.state) == ("decoding", "finished"), "the third takes the short one's place, next to the long one"
    finish_all(served)
    assert_alone(toy, long, short, third)


def test_task_6_engine_every_state_in_turn(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    first, second = served.submit(ask(20, 5)), served.submit(ask(30, 5, seed=1))
    seen: list[str] = []
    for _ in range(100):
        if not seen or seen[-1] != second.state:
            seen.append(second.state)
        if not served.has_work:
            break
        served.step()
        room = 4 * len(second.blocks)
        assert second.offset <= room, f"{second.offset} tokens are computed, and its blocks hold {room}"
    assert seen == ["waiting", "prefilling", "decoding", "finished"], "in this order, each once; its prompt takes 3 steps"
    assert_alone(toy, first, second)


def test_task_6_engine_blocks_for_all_that_is_known_are_taken_at_once(toy: ToyModel) -> None:
    served = engine(toy)
    request = served.submit(ask(30, 9))
    served.step()
    assert (request.offset, len(request.blocks)) == (12, 8), (
        "30 tokens need 8 blocks of 4, all of them at admission: two prompts that are half read must not wait for each other"
    )
    sizes = set()
    step_until(served, lambda: sizes.add(len(request.blocks)) or not served.has_work)
    assert max(sizes) == 10, "and then a block whenever a decode begins one: 38 tokens are computed, which need 10"
    assert_alone(toy, request)


@pytest.mark.parametrize("position", [0, 1, 4, 7])
def test_task_6_engine_eos_ends_a_request_and_only_that(toy: ToyModel, position: int) -> None:
    ender = ask_with_eos(toy, 6, position, 8)
    others = [ask(length, 12) for length in (3, 11, 5)]
    served = engine(toy)
    serve(served, ender, *others)
    assert ender.finish_reason == "stop", f"token {position} of its answer is its EOS"
    assert_alone(toy, ender, *others)
    assert_can_still_serve(served, toy)


def test_task_6_engine_whoever_has_ended_holds_nothing(toy: ToyModel) -> None:
    served = engine(toy)

    def give_up(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            raise OSError("the client has gone")

    requests = [
        ask(4, 6),
        ask(9, 1),
        ask_with_eos(toy, 5, 3, 20),
        ask_with_eos(toy, 5, 0, 20),
        ask(3, 20, 1, on_update=give_up),
        ask(20, 20, 2),
    ]
    for request in requests:
        served.submit(request)
    step_until(served, lambda: requests[5].state == "decoding")
    served.cancel(requests[5])
    finish_all(served)
    for request in requests:
        assert request.blocks == [], f"it has ended ({request.finish_reason}), and its blocks are given back in that moment"
    assert_nothing_is_lost(served)


def test_task_6_engine_an_idle_step_costs_nothing(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = engine(model)
    served.submit(ask(3, 2))
    finish_all(served)
    calls = len(model.calls)
    assert served.step() == [], "all has been returned: nothing twice"
    assert len(model.calls) == calls, "without a request the model is not called"


def test_task_6_engine_a_second_wave(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=3)
    for wave in range(3):
        requests = [served.submit(ask(5 + 4 * seed, 6 - wave, seed)) for seed in range(5)]
        assert set(served.run()) == set(requests), "run returns the requests of this wave, each once"
        assert_alone(toy, *requests)


# What is refused.


def test_task_6_engine_a_request_larger_than_the_pool_is_refused(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=5, max_seq_len=100)
    fits, other = ask(15, 6), ask(4, 3, seed=1)
    try:
        served.submit(fits)
    except ValueError as error:
        raise AssertionError(
            f"15 + 6 tokens fill 5 blocks of 4 exactly, since the last token is never computed on; but submit refused: {error}"
        ) from error
    for length, tokens in ((15, 7), (40, 1), (1, 21)):
        with refuses(ValueError, f"submit, of {length} + {tokens} tokens where 5 blocks of 4 hold 20", "blocks"):
            served.submit(ask(length, tokens))
    assert_returned(serve(served, other), fits, other)
    assert_alone(toy, fits, other)


def test_task_6_engine_a_prompt_that_leaves_no_room_is_refused(toy: ToyModel) -> None:
    served = engine(toy, max_seq_len=20)
    for length in (0, 20, 300):
        with refuses(ValueError, f"submit, of a prompt of {length} tokens where max_seq_len is 20"):
            served.submit(ask(length, 1))
    request = ask(12, 500)
    serve(served, request)
    assert request.generated_tokens == alone(toy, request.prompt, 8), "prompt and answer have max_seq_len = 20 together"


def test_task_6_engine_the_model_is_the_limit_where_none_is_given(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=5)
    with refuses(ValueError, "submit, of 13 + 500 tokens where 5 blocks of 4 hold 20, and the model takes 512", "blocks"):
        served.submit(ask(13, 500))
    served = engine(toy, num_blocks=200)
    request = served.submit(ask(509, 500))
    serve(served)
    expect_no_error(request)
    assert len(request.generated_tokens) == 3, (
        "the model takes max_position_embeddings = 512 tokens, 509 of which are the prompt's"
    )


def test_task_6_engine_a_request_of_the_other_engine_is_refused(toy: ToyModel) -> None:
    served = engine(toy)
    with refuses(ValueError, "submit, of a Request, which has no block table", "PagedRequest"):
        served.submit(answer.Request(make_prompt(3), 4))
    assert not served.has_work, "nothing is left of a refused request"


def test_task_6_engine_a_request_is_submitted_once(toy: ToyModel) -> None:
    served = engine(toy)
    request = served.submit(ask(5, 9))
    for moment in ("it waits", "it runs", "it is preempted", "it has ended"):
        with refuses(ValueError, f"submit, of a request while {moment}"):
            served.submit(request)
        if moment == "it runs":
            served.preempt(request)
        elif moment == "it is preempted":
            finish_all(served)
        else:
            served.step()
    assert_alone(toy, request)


# Cancelling.


@pytest.mark.parametrize("state", ["waiting", "prefilling", "decoding", "finished"])
def test_task_6_engine_cancel_in_every_state(toy: ToyModel, state: str) -> None:
    served = engine(toy, max_num_seqs=2)
    neighbours = [served.submit(ask(5, 9)), served.submit(ask(4, 7, seed=1))]
    victim = served.submit(ask(30, 8, seed=2))
    step_until(served, lambda: victim.state == state)
    kept = list(victim.generated_tokens)
    served.cancel(victim)
    served.check_integrity()
    served.cancel(victim)  # once more does no harm
    assert (victim.state, victim.blocks, victim.generated_tokens) == ("finished", [], kept), "cancel ends it at once"
    assert victim.finish_reason == ("length" if state == "finished" else "cancelled"), "what has finished stays as it is"
    ended = serve(served)
    assert victim.generated_tokens == kept, "no token comes after the end"
    assert ended.count(victim) == (0 if state == "finished" else 1), "step returns a request once: here, or before"
    assert_beginning(toy, victim)
    assert_alone(toy, *neighbours)
    assert_can_still_serve(served, toy)


def test_task_6_engine_a_cancelled_request_makes_room_at_once(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=8)
    large, other = served.submit(ask(24, 8)), served.submit(ask(20, 5, seed=1))
    step_until(served, lambda: len(large.generated_tokens) == 2)
    served.cancel(large)
    served.step()
    assert other.state == "prefilling", "the blocks of the cancelled request are free, and the next one fits into them"
    serve(served)
    assert_alone(toy, other)


@pytest.mark.parametrize("steps", range(1, 7))
def test_task_6_engine_cancel_when_a_token_is_on_its_way(toy: ToyModel, steps: int) -> None:
    served = engine(toy)
    request, other = served.submit(ask(4, 3)), served.submit(ask(5, 9))
    ended = [found for _ in range(steps) for found in served.step()]
    served.cancel(request)
    served.check_integrity()
    ended += serve(served)
    assert_returned(ended, request, other)
    assert_beginning(toy, request)
    assert_alone(toy, other)


@pytest.mark.parametrize("killer", [0, 1])
def test_task_6_engine_a_request_may_cancel_another(toy: ToyModel, killer: int) -> None:
    served = engine(toy)
    requests: list[Any] = []

    def kill(request: Any, new_text: str) -> None:
        if len(request.generated_tokens) == 3:
            served.cancel(requests[1 - killer])

    for row in range(2):
        requests.append(ask(4, 12, row, on_update=kill if row == killer else None))
    requests.append(ask(7, 12))
    assert_returned(serve(served, *requests), *requests)
    expect_no_error(*requests)
    assert requests[1 - killer].finish_reason == "cancelled", "its neighbour's on_update cancelled it, in the middle of a step"
    assert_beginning(toy, requests[1 - killer])
    assert_alone(toy, requests[killer], requests[2])
    assert_can_still_serve(served, toy)


def test_task_6_engine_an_answer_may_lead_to_the_next_question(toy: ToyModel) -> None:
    served = engine(toy)
    chain: list[Any] = []

    def next_question(request: Any, new_text: str) -> None:
        if request.state == "finished" and len(chain) < 5:
            chain.append(served.submit(answer.PagedRequest(request.tokens[-6:], 4, on_update=next_question)))

    neighbour = ask(6, 25)
    chain.append(served.submit(ask(4, 4, on_update=next_question)))
    serve(served, neighbour)
    assert len(chain) == 5, "submit works from within on_update, and run goes on until none is left"
    assert_alone(toy, neighbour, *chain)


# In turn.


def test_task_6_engine_users_are_served_in_equal_parts(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    many = [ask(6, 4, seed, user="many") for seed in range(8)]
    few = [ask(6, 4, seed, user="few") for seed in range(10, 12)]
    ended = serve(served, *many, *few)
    places = [ended.index(request) for request in few]
    assert [place <= 2 * turn for turn, place in enumerate(places, 1)] == [True, True], (
        f"a user with two requests came after one with eight and was served at places {places}: users take turns, by the"
        " tokens that were computed for each"
    )


def test_task_6_engine_answers_are_charged_too(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    talkers = [ask(2, 24, seed, user="talker") for seed in range(4)]
    askers = [ask(2, 1, seed, user="asker") for seed in range(10, 20)]
    ended = serve(served, *talkers, *askers)
    before = ended.index(talkers[1])
    assert before >= 8, (
        f"an answer of 24 tokens costs as much as eight requests of 2 + 1 tokens; only {before - 1} of these were served before"
        " the talker had the next turn"
    )


def test_task_6_engine_prompts_are_charged_too(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    readers = [ask(31, 1, seed, user="reader") for seed in range(3)]
    askers = [ask(3, 1, seed, user="asker") for seed in range(10, 20)]
    ended = serve(served, *readers, *askers)
    before = ended.index(readers[1])
    assert before >= 8, (
        f"a prompt of 31 tokens costs as much as eight of 3 + 1 tokens; only {before - 1} of these were served before the"
        " reader had the next turn"
    )


def test_task_6_engine_what_the_cache_has_is_not_charged(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    serve(served, ask(33, 1, user="nobody"))
    readers = [ask(33, 1, user="reader") for _ in range(6)]
    askers = [ask(3, 1, seed, user="asker") for seed in range(10, 16)]
    ended = serve(served, *readers, *askers)
    assert ended.index(readers[5]) - ended.index(askers[3]) < 5, (
        "of each 33 prompt tokens 32 are found and one is computed: such a request costs no more than one of 3 tokens"
    )


def test_task_6_engine_urgent_requests_go_first(toy: ToyModel) -> None:
    served = engine(toy, max_num_seqs=1)
    normal = [ask(3, 3, seed) for seed in range(3)]
    urgent = ask(3, 3, seed=5, priority=-1)
    assert serve(served, *normal, urgent)[0] is urgent, "the lowest priority number is admitted first"


def test_task_6_engine_works_with_a_paged_attention_of_its_own(toy: ToyModel) -> None:
    calls = []

    def paged_attention(q: Any, keys: Any, values: Any, table: Any, lengths: Any, scale: float) -> Any:
        calls.append(q.shape)
        return q

    served = engine(toy, paged_attention=paged_attention)
    served.submit(ask(5, 3))
    finish_all(served)
    assert calls, "every layer's cache is handed `paged_attention`, and attends with it"
