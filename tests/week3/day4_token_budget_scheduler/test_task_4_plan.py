"""Week 3 Day 4, task 4: what a step computes, under a budget of tokens, a number of seats, and a pool of blocks of 4 tokens."""

from collections.abc import Iterator
from typing import Any

import pytest

from answer import answer
from planning import State, assert_plan
from support import refuses

# The budget


def test_task_4_a_plan_for_nobody_is_empty() -> None:
    assert_plan(State(), "nothing", "no request waits or runs")


def test_task_4_everyone_who_decodes_gets_a_token() -> None:
    state = State()
    for name, computed in (("a", 5), ("b", 8), ("c", 3)):
        state.decode(name, computed)
    assert_plan(state, "decode a, b, c", "all three decode", seqs=3, tokens=3)


def test_task_4_a_token_in_flight_is_decoded_on() -> None:
    state = State()
    state.decode("a", 5, in_flight=1)
    assert_plan(state, "decode a", "a's last token has not come back yet, and the next step computes on it all the same")


def test_task_4_chunks_fill_what_decodes_leave() -> None:
    state = State()
    state.decode("a", 5)
    state.begun("b", prompt=30, done=6)
    state.decode("c", 9)
    assert_plan(state, "decode a, c; go on b 6:12", "a budget of 8: two decodes, and 6 tokens of b's prompt", tokens=8)


def test_task_4_decodes_come_first_however_old_a_prompt_is() -> None:
    state = State()
    state.begun("a", prompt=30, done=6)
    for name in "bcd":
        state.decode(name, 5)
    assert_plan(
        state, "decode b, c, d; go on a 6:7", "a budget of 4 and three decodes: one token is left for a", seqs=4, tokens=4
    )


def test_task_4_all_seats_decode() -> None:
    state = State()
    for name in "abcd":
        state.decode(name, 5)
    state.wait("e", 3)
    assert_plan(state, "decode a, b, c, d", "four decodes use up a budget of 4, and all seats", seqs=4, tokens=4)


def test_task_4_the_oldest_prompt_goes_on_first() -> None:
    state = State()
    state.begun("a", prompt=10, done=5)
    state.begun("b", prompt=20, done=2)
    state.begun("c", prompt=20, done=2)
    assert_plan(state, "go on a 5:10, b 2:5", "a budget of 8: a's last 5 tokens, then 3 of b's, and nothing for c", tokens=8)


def test_task_4_prompts_that_were_begun_go_before_newcomers() -> None:
    state = State()
    state.wait("new", 3)
    state.begun("old", prompt=30, done=6)
    assert_plan(state, "go on old 6:22", "the budget of 16 goes to the prompt that was begun")


def test_task_4_a_chunk_ends_with_what_is_known() -> None:
    state = State()
    state.begun("a", prompt=10, done=8)
    assert_plan(state, "go on a 8:10", "a has 2 tokens left, whatever the budget")


def test_task_4_an_answer_that_was_lost_is_computed_in_chunks() -> None:
    state = State()
    state.begun("a", prompt=10, done=12, answered=8)
    assert_plan(
        state,
        "go on a 12:16",
        "a was preempted: 18 tokens are known, and those of its answer are in chunks, too",
        seqs=2,
        tokens=4,
    )
    state.running.clear()
    state.begun("b", prompt=10, done=17, answered=8)
    assert_plan(state, "decode b", "17 of b's 18 known tokens are computed: it decodes")


@pytest.mark.parametrize("tokens", [3, 4, 9, 10, 11, 16, 17, 18, 40])
def test_task_4_the_budget_is_used_up_and_never_exceeded(tokens: int) -> None:
    state = State()
    state.decode("a", 5)
    state.begun("b", prompt=12, done=3)
    state.wait("c", 7)
    state.wait("d", 9)
    plan = state.plan(seqs=3, tokens=tokens)
    used = len(plan.decodes) + sum(chunk.end - chunk.start for chunk in plan.chunks)
    assert used == min(tokens, 1 + 9 + 7), (
        f"a budget of {tokens}, 1 decode, 9 and 7 tokens of prompts, no seat for d: used {used}"
    )


def test_task_4_those_who_only_wait_for_their_last_token_are_left_alone() -> None:
    state = State()
    state.decode("a", 8, in_flight=1, max_tokens=2)
    state.decode("b", 6)
    state.wait("c", 5)
    assert state.running[0].all_launched, "the test wants a to have asked for everything"
    assert_plan(state, "decode b; admit c 0:5", "a needs no token and no seat: of two seats, one is c's", seqs=2)


def test_task_4_limits_that_leave_somebody_without_a_token_are_refused() -> None:
    state = State()
    for name in "abcd":
        state.decode(name, 5)
    assert_plan(state, "decode a, b, c, d", "4 tokens for 4 requests are enough", seqs=4, tokens=4)
    with refuses(ValueError, "4 tokens are not enough for 5 requests"):
        answer.Scheduler(5, 4)
    with refuses(ValueError, "no seat, no service"):
        answer.Scheduler(0, 4)
    for watermark in (-0.1, 1.0):
        with refuses(ValueError, f"a watermark of {watermark} is no share of the pool that may stay free"):
            answer.Scheduler(4, 8, watermark)


# Admission


def test_task_4_newcomers_are_admitted_in_turn() -> None:
    state = State()
    for name, prompt in (("a", 5), ("b", 9), ("c", 4)):
        state.wait(name, prompt)
    assert_plan(state, "admit a 0:5, b 0:9, c 0:2", "a budget of 16: 5, 9, and the first 2 tokens of c's prompt")


def test_task_4_a_long_prompt_begins_with_what_the_budget_leaves() -> None:
    state = State()
    state.wait("a", 50)
    state.wait("b", 3)
    assert_plan(state, "admit a 0:16", "a's first chunk is the whole budget")


@pytest.mark.parametrize(("seqs", "expected"), [(2, "decode a; go on b 3:6"), (3, "decode a; go on b 3:6; admit c 0:2")])
def test_task_4_whoever_runs_has_a_seat(seqs: int, expected: str) -> None:
    state = State()
    state.decode("a", 5)
    state.begun("b", prompt=6, done=3)
    state.wait("c", 2)
    state.wait("d", 2)
    assert_plan(state, expected, f"{seqs} seats: prompts that are being read have one, too", seqs=seqs)


@pytest.mark.parametrize(("prompt", "expected"), [(12, "admit a 0:4"), (13, "nothing")])
def test_task_4_all_known_tokens_must_fit(prompt: int, expected: str) -> None:
    state = State()
    state.leave_free(3)
    state.wait("a", prompt)
    assert_plan(
        state, expected, f"3 free blocks hold 12 tokens, and a has {prompt}, though its first chunk has 4", seqs=4, tokens=4
    )


@pytest.mark.parametrize(("answered", "expected"), [(5, "admit a 0:12"), (6, "nothing")])
def test_task_4_known_tokens_are_those_of_the_answer_too(answered: int, expected: str) -> None:
    state = State()
    state.leave_free(3)
    state.wait("a", 7, answered=answered)
    assert_plan(state, expected, f"a was preempted: 7 tokens of its prompt and {answered} of its answer, and room for 12")


def test_task_4_a_request_that_was_preempted_begins_again_with_all_that_is_known() -> None:
    state = State()
    state.wait("a", 7, answered=4)
    assert_plan(state, "admit a 0:11", "its answer is part of what has to be computed")


def test_task_4_rooms_of_newcomers_add_up() -> None:
    state = State()
    state.leave_free(4)
    for name in "abc":
        state.wait(name, 5)
    assert_plan(state, "admit a 0:5, b 0:5", "4 free blocks: two prompts of 5 tokens take 2 each", tokens=32)


def test_task_4_nobody_overtakes_who_does_not_fit() -> None:
    state = State()
    state.leave_free(3)
    for name, prompt in (("a", 4), ("large", 16), ("small", 2)):
        state.wait(name, prompt)
    assert_plan(state, "admit a 0:4", "small would fit, but if it went first, large could wait for ever")


def test_task_4_decodes_get_their_blocks_before_newcomers() -> None:
    state = State()
    state.decode("a", 8)
    state.leave_free(1)
    state.wait("b", 2)
    assert_plan(state, "decode a", "a's two blocks are full, and it takes the last free one")


@pytest.mark.parametrize(("prompt", "expected"), [(8, "decode a; admit b 0:8"), (9, "decode a")])
def test_task_4_admission_leaves_the_watermark_free(prompt: int, expected: str) -> None:
    state = State(num_blocks=20)
    state.decode("a", 6)
    state.leave_free(6)
    state.wait("b", prompt)
    look_at = f"a runs, 20 % of 20 blocks stay free for it, and 6 are free: {prompt} tokens may take 2 blocks, and not 3"
    assert_plan(state, expected, look_at, watermark=0.2)


def test_task_4_the_watermark_does_not_keep_the_only_one_out() -> None:
    state = State(num_blocks=4)
    state.wait("a", 16)
    assert_plan(state, "admit a 0:16", "nothing runs that could need the blocks, and a would wait for ever", watermark=0.5)


def test_task_4_the_watermark_counts_after_the_first_admission() -> None:
    state = State(num_blocks=8)
    state.wait("a", 16)
    state.wait("b", 4)
    assert_plan(
        state, "admit a 0:16", "a runs from this step on, and half of the pool stays free for it", tokens=32, watermark=0.5
    )


def test_task_4_decodes_may_use_what_the_watermark_keeps() -> None:
    state = State(num_blocks=8)
    state.decode("a", 4)
    state.decode("b", 4)
    state.leave_free(2)
    assert_plan(state, "decode a, b", "the watermark is kept for those who run", watermark=0.5)


def test_task_4_somebody_whose_token_is_in_flight_is_passed_over() -> None:
    state = State()
    state.wait("a", 7, answered=2, in_flight=1)
    state.wait("b", 3)
    state.wait("c", 3, answered=1, in_flight=1)
    state.wait("d", 3)
    assert_plan(state, "admit b 0:3, d 0:3", "a and c were preempted with a token in flight, and begin again when it is back")


class Queue(Iterator[Any]):
    """Counts how many are taken."""

    def __init__(self, requests: list[Any]) -> None:
        self.requests = iter(requests)
        self.taken = 0

    def __next__(self) -> Any:
        self.taken += 1
        return next(self.requests)


def test_task_4_a_plan_looks_at_no_more_of_the_queue_than_it_needs() -> None:
    state = State()
    state.decode("a", 5)
    for place in range(1000):
        state.wait(f"request {place}", 4)
    for seqs, tokens, most in ((3, 16, 4), (8, 9, 4), (1, 16, 1)):
        queue = Queue(state.waiting)
        answer.Scheduler(seqs, tokens).plan(queue, state.running, state.pool, state.cache)
        assert queue.taken <= most, (
            f"{seqs} seats, a budget of {tokens}, 1 decode, prompts of 4 tokens: the plan took {queue.taken} of 1000 that wait"
        )
