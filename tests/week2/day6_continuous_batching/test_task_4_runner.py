"""Task 4, second part: the model runner, driven by hand. No queue, no engine, no plan."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from day6_engines import ask, drawn_alone
from support import CountingModel, ToyModel, alone, make_prompt

MANY = 40
"""Tokens that no request here reaches: requests do not end, since that is the engine's business."""


class DeepToy(ToyModel):
    """Five layers, so that a runner which serves two does not serve all."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = [self.layers[i % 2] for i in range(5)]
        self.config = replace(self.config, num_layers=5)


def new_runner(model: Any, slots: int = 4) -> Any:
    return answer.ModelRunner(model, slots, 64)


def keep(requests: Sequence[Any], drawn: Any) -> None:
    """Hand tokens that have been drawn to their requests, one each."""
    __tracebackhide__ = True
    assert drawn.tokens.shape == (len(requests),), f"{len(requests)} rows draw one token each, and not {drawn.tokens.shape}"
    for request, token in zip(requests, drawn.tokens.tolist(), strict=True):
        request.accept(token)


def prefill(runner: Any, request: Any, step: int = 8) -> Any:
    """The prompt, chunk by chunk; what the last one draws."""
    length = len(request.prompt)
    drawn = None
    for start in range(0, length, step):
        assert drawn is None, "prefill returns a token at the prompt's end, and None before"
        drawn = runner.prefill(request, start, min(start + step, length))
    assert drawn is not None, "the end of a prompt yields the first token of the answer: prefill returned None there"
    return drawn


def enter(runner: Any, request: Any, slot: int) -> Any:
    """Prefill, join, and read the first token."""
    drawn = prefill(runner, request)
    runner.join(request, slot, drawn)
    keep([request], drawn)
    return request


def decode(runner: Any, requests: Sequence[Any], steps: int) -> None:
    for _ in range(steps):
        keep(requests, runner.decode(requests))


def assert_says(toy: ToyModel, request: Any, look_at: str) -> None:
    """What a request has been given so far is the beginning of what it says alone."""
    __tracebackhide__ = True
    said = request.generated_tokens
    expected = alone(toy, request.prompt, len(said))
    same = next((i for i, (one, other) in enumerate(zip(said, expected, strict=True)) if one != other), len(said))
    assert said == expected, f"{look_at}: from token {same} on it says something else than alone ({said[same:]})"


def assert_lengths(runner: Any, expected: dict[int, int], look_at: str) -> None:
    """All layers hold these slots and lengths."""
    __tracebackhide__ = True
    for layer, cache in enumerate(runner.caches):
        assert dict(cache.lengths) == expected, f"{look_at}: layer {layer} holds {cache.lengths}, expected {expected}"


# Prefill.


@pytest.mark.parametrize("bounds", [[0, 20], [0, 8, 16, 20], [0, 3, 4, 19, 20]])
def test_task_4_runner_prefills_in_chunks(toy: ToyModel, bounds: list[int]) -> None:
    model = CountingModel(toy)
    runner, request = new_runner(model), ask(20, MANY)
    for start, end in pairwise(bounds):
        drawn = runner.prefill(request, start, end)
        assert request.offset == end, f"prefill up to {end} advances `offset` to there; it is {request.offset}"
        assert request.kv_cache is not None, "the chunks of a prompt are kept in the request's own cache"
        assert (drawn is None) == (end < 20), "prefill returns a token at the prompt's end, and None before"
    assert model.calls == [(1, end - start) for start, end in pairwise(bounds)], (
        "each chunk is one call of the model, with these tokens and no others"
    )
    keep([request], drawn)
    assert_says(toy, request, "the first token follows from the whole prompt: are all chunks in one cache, each at its place?")


def test_task_4_runner_prefills_requests_in_turn(toy: ToyModel) -> None:
    runner = new_runner(toy)
    one, other = ask(20, MANY), ask(17, MANY, seed=1)
    drawn = []
    for start in (0, 8, 16):
        drawn = [runner.prefill(request, start, min(start + 8, len(request.prompt))) for request in (one, other)]
    for request, token in zip((one, other), drawn, strict=True):
        keep([request], token)
        assert_says(toy, request, "two prompts in turn, each in a cache of its own")
    assert_lengths(runner, {}, "whose prompt is being read has no slot yet")


def test_task_4_runner_leaves_slots_alone_while_it_prefills(toy: ToyModel) -> None:
    runner = new_runner(toy)
    talker, reader = enter(runner, ask(5, MANY), 0), ask(20, MANY, seed=1)
    for start, end in ((0, 8), (8, 16), (16, 20)):
        runner.prefill(reader, start, end)
        decode(runner, [talker], 2)
    assert_says(toy, talker, "a neighbour's prompt is computed in between, in another cache")


def test_task_4_runner_says_how_good_the_best_token_was(toy: ToyModel) -> None:
    runner = new_runner(toy)
    requests = [ask(6, MANY), ask(11, MANY, seed=1)]
    for slot, request in enumerate(requests):
        drawn = prefill(runner, request)
        largest = mx.max(toy(mx.array([request.prompt]))[0, -1]).item()
        assert np.allclose(drawn.best.tolist(), [largest], atol=1e-3), "`best` is the largest logit at the prompt's end, (1,)"
        runner.join(request, slot, drawn)
        keep([request], drawn)
    wanted = [mx.max(toy(mx.array([request.tokens]))[0, -1]).item() for request in requests]
    drawn = runner.decode(requests)
    got = np.round(drawn.best.tolist(), 3).tolist()
    assert np.allclose(got, wanted, atol=2e-3), (
        f"`best` is the largest logit of each row, (B,): {np.round(wanted, 3).tolist()}, and not {got}. If the tokens of other"
        " tests are wrong, too, look at the logits themselves: each row has an offset of its own"
    )


# A batch.


def test_task_4_runner_decodes_rows_of_different_lengths(toy: ToyModel) -> None:
    model = CountingModel(toy)
    runner = new_runner(model, slots=16)
    requests = [enter(runner, ask(length, MANY), slot) for slot, length in enumerate((9, 1, 30, 4))]
    assert [request.kv_cache for request in requests] == [None] * 4, "a request that has joined gives its own cache up"
    model.calls.clear()
    for steps in range(1, 12):
        decode(runner, requests, 1)
        assert model.calls == [(4, 1)] * steps, "one call for all, one token for each, and no rows for slots without a request"
        assert [request.offset for request in requests] == [length + steps for length in (9, 1, 30, 4)], (
            "a decode step asks for one position more of each request: `offset` grows by one"
        )
    for request in requests:
        assert_says(toy, request, f"a prompt of {len(request.prompt)} tokens in a batch: look at its position and its mask")


def test_task_4_runner_reads_no_token_and_gives_none_out(toy: ToyModel) -> None:
    runner, request = new_runner(toy), ask(5, 2)
    runner.join(request, 0, prefill(runner, request))
    runner.decode([request])
    assert (request.generated_tokens, request.state) == ([], "decoding"), (
        "the runner knows what it launched and not what came of it: the engine reads the tokens and hands them out"
    )
    runner.leave(0)
    assert request.state == "decoding", "leave frees a slot; whether a request ends is decided elsewhere"


@pytest.mark.parametrize("told", [False, True])
def test_task_4_runner_feeds_each_row_its_last_token(toy: ToyModel, told: bool) -> None:
    runner = new_runner(toy)
    requests = [ask(4, MANY), ask(9, MANY, seed=1), ask(6, MANY, seed=2)]
    drawn = []
    for slot, request in enumerate(requests):
        drawn.append(prefill(runner, request))
        runner.join(request, slot, drawn[-1])
    if told:
        for request, first in zip(requests, drawn, strict=True):
            keep([request], first)
    steps = [runner.decode(requests) for _ in range(6)]
    if not told:
        for request, first in zip(requests, drawn, strict=True):
            keep([request], first)
    for step in steps:
        keep(requests, step)
    for request in requests:
        assert_says(toy, request, "steps are launched one after another, and the tokens read when all are on their way")


def test_task_4_runner_joins_while_others_decode(toy: ToyModel) -> None:
    runner = new_runner(toy)
    requests: list[Any] = []
    for slot, length in enumerate((3, 20, 1, 12)):
        requests.append(enter(runner, ask(length, MANY), slot))
        decode(runner, requests, 3)
    for request in requests:
        assert_says(toy, request, "one after the other joins: a newcomer's first token goes into its own row")


def test_task_4_runner_fills_a_slot_between_others(toy: ToyModel) -> None:
    runner = new_runner(toy)
    left, middle, right = (enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((20, 30, 5)))
    decode(runner, [left, middle, right], 4)
    runner.leave(1)
    fresh = enter(runner, ask(2, MANY), 1)
    assert_lengths(runner, {0: 24, 1: 2, 2: 9}, "slot 1 has a new owner, with 2 tokens")
    decode(runner, [left, fresh, right], 6)
    assert_says(
        toy,
        fresh,
        "it joined in slot 1, between two others: look at the place of its first token in `last_tokens`, and at the mask, which"
        " has to hide what a longer owner left there",
    )
    for request in (left, right):
        assert_says(toy, request, "a request left and another joined in the slot between them")


def test_task_4_runner_fills_the_slot_that_it_is_given(toy: ToyModel) -> None:
    runner = new_runner(toy)
    first, second, third = (enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((20, 30, 5)))
    decode(runner, [first, second, third], 2)
    runner.leave(0)
    runner.leave(1)
    a = enter(runner, ask(3, MANY), 1)
    b = enter(runner, ask(9, MANY), 0)
    assert_lengths(runner, {0: 9, 1: 3, 2: 7}, "slot 1 was filled before slot 0")
    decode(runner, [b, a, third], 6)
    for request in (a, b, third):
        assert_says(toy, request, "two left, and two joined in the other order: each in the slot that `join` was given")


def test_task_4_runner_moves_a_row_with_all_that_belongs_to_it(toy: ToyModel) -> None:
    runner = new_runner(toy)
    a, b, c = (enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((9, 4, 15)))
    decode(runner, [a, b, c], 3)
    runner.leave(0)
    runner.move(2, 0)
    assert_lengths(runner, {0: 18, 1: 7}, "slot 2 moved to 0")
    decode(runner, [c, b], 5)
    assert_says(toy, c, "it moved from slot 2 to 0: keys and values in all layers, and its last token, go with it")
    assert_says(toy, b, "its neighbour moved, and it did not")
    runner.leave(0)
    runner.move(1, 0)
    decode(runner, [b], 5)
    assert_says(toy, b, "it moved from slot 1 to 0, and is alone now")


def test_task_4_runner_moves_who_has_just_joined(toy: ToyModel) -> None:
    runner = new_runner(toy)
    gone, request = enter(runner, ask(9, MANY), 0), enter(runner, ask(4, MANY, seed=1), 1)
    runner.leave(0)
    runner.move(1, 0)
    decode(runner, [request], 5)
    assert_says(toy, request, "it moved before its first decode step: its last token is the one that it joined with")
    assert gone.offset == 9, "a request that has left is computed no more"


def test_task_4_runner_joins_behind_a_row_that_is_gone(toy: ToyModel) -> None:
    runner = new_runner(toy)
    a, b, c = (enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((9, 4, 15)))
    decode(runner, [a, b, c], 2)
    runner.leave(2)
    decode(runner, [a, b], 2)
    d = enter(runner, ask(6, MANY, seed=9), 2)
    decode(runner, [a, b, d], 5)
    for request in (a, b, c, d):
        assert_says(toy, request, "the batch shrank to two rows and grew to three again: look at `last_tokens`")


@pytest.mark.parametrize("change", ["join", "join in between", "move", "leave"])
def test_task_4_runner_keeps_tokens_that_are_waited_for(toy: ToyModel, change: str) -> None:
    runner = new_runner(toy)
    requests = [enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((9, 4, 15))]
    newcomer = ask(6, MANY, seed=9)
    first = prefill(runner, newcomer)
    drawn = runner.decode(requests)
    if change == "join":
        runner.join(newcomer, 3, first)
    else:
        runner.leave(0)
    if change == "join in between":
        runner.join(newcomer, 0, first)
    if change == "move":
        runner.move(2, 0)
    keep(requests, drawn)
    for request in requests:
        assert_says(
            toy,
            request,
            f"a {change} after the launch changed the tokens that the launch had returned: make a new `last_tokens`, the old"
            " array belongs to those that wait for it",
        )


def test_task_4_runner_serves_all_layers() -> None:
    deep = DeepToy()
    runner = new_runner(deep)
    a, b, c = (enter(runner, ask(length, MANY, length), slot) for slot, length in enumerate((9, 4, 15)))
    assert len(runner.caches) == 5, "one cache for each layer of the model"
    assert_lengths(runner, {0: 9, 1: 4, 2: 15}, "a join is for every layer")
    decode(runner, [a, b, c], 3)
    runner.leave(1)
    assert_lengths(runner, {0: 12, 2: 18}, "a leave is for every layer")
    runner.move(2, 1)
    assert_lengths(runner, {0: 12, 1: 18}, "a move is for every layer")
    d = enter(runner, ask(7, MANY, seed=9), 2)
    decode(runner, [a, c, d], 4)
    for request in (a, c, d):
        assert_says(deep, request, "a model of five layers")


def test_task_4_runner_fills_a_slot_to_its_end(toy: ToyModel) -> None:
    runner = answer.ModelRunner(toy, 2, 20)
    full, other = enter(runner, ask(12, MANY), 0), enter(runner, ask(3, MANY, seed=1), 1)
    decode(runner, [full, other], 8)
    assert full.offset == 20, "20 tokens have been computed, and a slot holds 20"
    for request in (full, other):
        assert_says(toy, request, "a slot may be filled to its last place")


# Sampling.

PENALTY = {"repetition_penalty": 1.7}
WAYS = [{}, {"temperature": 3.0, "seed": 1}, PENALTY, {"temperature": 2.0, "top_k": 4, "seed": 2} | PENALTY, {}]


def scores(rows: int, seed: int = 0) -> mx.array:
    return mx.array(np.random.default_rng(seed).normal(0, 2, (rows, 300)).astype(np.float32))


def asked(way: dict[str, Any], length: int = 6, seed: int = 0) -> Any:
    """A request whose prompt is computed, and that wants its tokens drawn in this way."""
    request = ask(length, MANY, seed, sampling=answer.SamplingParams(**way))
    request.offset = length
    return request


def test_task_4_runner_samples_each_row_in_its_own_way() -> None:
    requests = [asked(way, 4 + row, row) for row, way in enumerate(WAYS)]
    for seed in range(5):
        logits = scores(len(requests), seed)
        last = mx.array([7 * row + seed for row in range(len(requests) + 2)], dtype=mx.uint32)
        tokens = answer.sample(logits, requests, last)
        assert (tokens.shape, tokens.dtype) == ((len(requests),), mx.uint32), "sample returns tokens (B,), uint32"
        for row, request in enumerate(requests):
            expected = request.sampler(logits[row], [*request.prompt, 7 * row + seed]).item()
            assert tokens[row].item() == expected, (
                f"row {row} wants {request.sampling}: its own sampler, its own logits, its own prompt and its own last token"
            )


def test_task_4_runner_samples_greedy_rows_by_argmax() -> None:
    logits = scores(3)
    tokens = answer.sample(logits, [asked({}, seed=row) for row in range(3)], mx.array([1, 2, 3], dtype=mx.uint32))
    assert tokens.tolist() == mx.argmax(logits, axis=-1).tolist(), "a greedy row takes its largest logit"


@pytest.mark.parametrize("way", WAYS[1:4])
def test_task_4_runner_samples_a_first_token_after_the_prompt(way: dict[str, Any]) -> None:
    for seed in range(8):
        request, logits = asked(way, seed=seed), scores(1, seed)
        logits[0, request.prompt[2]] = 20.0  # the best by far, and it occurs in the prompt
        logits[0, request.prompt[2] - 1] = 19.0
        token = answer.sample(logits, [request])
        expected = request.sampler(logits[0], request.prompt).item()
        assert token.tolist() == [expected], f"{request.sampling}: drawn by the request's sampler, which is given the prompt"


@pytest.mark.parametrize("came_back", [2, 3])
@pytest.mark.parametrize("way", WAYS[1:4])
def test_task_4_runner_draws_the_same_whatever_has_come_back(way: dict[str, Any], came_back: int) -> None:
    """`offset` − 6 = 2 tokens of the answer are in the cache, the next one is in `last_tokens`, and this many were read."""
    generated = [11, 12, 13]
    request, logits = asked(way), scores(1)
    for token in generated[:came_back]:
        request.accept(token)
    request.offset += 2
    expected = request.sampler(logits[0], [*request.prompt, *generated]).item()
    assert answer.sample(logits, [request], mx.array([13], dtype=mx.uint32)).tolist() == [expected], (
        "a draw follows from the first `offset` tokens and the one in `last_tokens`, once, whether it has been read or not"
    )


@pytest.mark.parametrize("way", WAYS[1:4])
def test_task_4_runner_draws_the_first_token_like_any_other(toy: ToyModel, way: dict[str, Any]) -> None:
    for seed in range(8):
        request = ask(6, MANY, seed, sampling=answer.SamplingParams(**way))
        drawn = prefill(new_runner(toy), request)
        assert drawn.tokens.tolist() == drawn_alone(toy, request, 1), (
            f"{request.sampling}: the token at the prompt's end is drawn by the request's sampler, which is given the prompt"
        )


def test_task_4_runner_decodes_everyone_in_its_own_way(toy: ToyModel) -> None:
    requests = [ask(5 + row, MANY, row, sampling=answer.SamplingParams(**way)) for row, way in enumerate(WAYS)]
    runner = new_runner(toy, slots=5)
    for slot, request in enumerate(requests):
        enter(runner, request, slot)
    decode(runner, requests, 10)
    for request in requests:
        assert request.generated_tokens == drawn_alone(toy, request, 11), (
            f"{request.sampling} draws other tokens in company than alone: look at its position and at the tokens before"
        )
    assert_says(toy, requests[0], "a greedy row among others that are drawn")
    assert requests[2].generated_tokens == alone(toy, make_prompt(7, 2), 11, penalty=1.7), (
        "with a repetition penalty: its prompt and all of its answer count, and no other request's"
    )
