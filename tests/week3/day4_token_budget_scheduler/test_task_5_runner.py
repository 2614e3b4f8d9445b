"""Week 3 Day 4, task 5: one call of the model for decodes and prompt chunks. Nothing is read back in it."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from day6_engines import UnreadableModel, drawn_alone
from launching_ahead import waits_for_nothing
from oracles import mlx_lm_model
from paged_engines import ask
from support import POISON, CountingModel, ToyModel, alone
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

BLOCK = 4


def runner(model: Any, num_blocks: int = 24) -> Any:
    return answer.PagedRunner(model, num_blocks, BLOCK)


def seat(request: Any, *blocks: int) -> Any:
    """Let it hold these blocks."""
    request.blocks = list(blocks)
    return request


def plan(decodes: Sequence[Any] = (), chunks: Sequence[tuple[Any, int]] = ()) -> Any:
    """A token for each of `decodes`, and this many further tokens of each of the other requests."""
    parts = [answer.Chunk(request, request.offset, request.offset + count) for request, count in chunks]
    return answer.MixedPlan(list(decodes), parts, [])


def read(result: Any, *requests: Any) -> None:
    """Hand the tokens of a step to these requests, who should be all that get one, in this order."""
    __tracebackhide__ = True
    if result is None:
        assert not requests, "run returned None, and a request gets a token in this step"
        return
    asking, drawn = result
    assert list(asking) == list(requests), (
        "run returns those who get a token: decodes, then chunks that reach the end of what is known, in the plan's order"
    )
    tokens = drawn.tokens.tolist()
    assert len(tokens) == len(requests), f"{len(tokens)} tokens for {len(requests)} requests"
    for request, token in zip(requests, tokens, strict=True):
        request.in_flight -= 1
        request.generated_tokens.append(token)


def finish(served: Any, *requests: Any) -> None:
    """Decode all of these, together, until each has `max_tokens`, reading a step after the next is launched."""
    last = None
    while open_ones := [r for r in requests if len(r.generated_tokens) + r.in_flight < r.max_tokens]:
        launched = served.run(plan(open_ones))
        if last is not None:
            read(last, *last[0])
        last = launched
    if last is not None:
        read(last, *last[0])


def assert_said(toy: ToyModel, *requests: Any) -> None:
    __tracebackhide__ = True
    for request in requests:
        expected = alone(toy, request.prompt, len(request.generated_tokens))
        assert request.generated_tokens == expected, (
            f"a prompt of {len(request.prompt)} tokens: it said {request.generated_tokens}, alone it says {expected}"
        )


def test_task_5_the_end_of_a_prompt_asks_for_a_token(toy: ToyModel) -> None:
    served, request = runner(toy), seat(ask(6, 4), 7, 2, 9)
    read(served.run(plan(chunks=[(request, 6)])), request)
    assert (request.offset, request.in_flight) == (6, 0), "six tokens were computed, and the one that it asked for is read"
    assert_said(toy, request)


def test_task_5_in_flight_counts_what_was_asked_for(toy: ToyModel) -> None:
    served, request = runner(toy), seat(ask(6, 4), 7, 2, 9)
    served.run(plan(chunks=[(request, 6)]))
    assert (request.offset, request.in_flight, request.to_compute) == (6, 1, 1), (
        "the first token is on its way: `in_flight` is 1, and so there is one more token to compute on"
    )
    served.run(plan([request]))
    assert (request.offset, request.in_flight, request.to_compute) == (7, 2, 1), "a decode computes one and asks for one"


@pytest.mark.parametrize("cuts", [(3, 6), (1, 2, 6), (4, 5, 6), (5, 6)])
def test_task_5_a_prompt_in_chunks(toy: ToyModel, cuts: tuple[int, ...]) -> None:
    served, request = runner(toy), seat(ask(6, 4), 7, 2, 9)
    for start, end in pairwise((0, *cuts[:-1])):
        assert served.run(plan(chunks=[(request, end - start)])) is None, (
            "a chunk that does not reach the prompt's end asks for nothing: the token after it is not wanted"
        )
        assert (request.offset, request.in_flight) == (end, 0), "`offset` advances to the chunk's end"
    read(served.run(plan(chunks=[(request, 6 - cuts[-2])])), request)
    finish(served, request)
    assert_said(toy, request)


def test_task_5_decodes_and_chunks_share_one_call(toy: ToyModel) -> None:
    model = CountingModel(toy)
    served = runner(model)
    first, second = seat(ask(5, 6), 3, 8, 1), seat(ask(2, 6, seed=1), 20, 5)
    third, fourth = seat(ask(9, 4, seed=2), 10, 0, 11, 4), seat(ask(3, 4, seed=3), 14, 15)
    read(served.run(plan(chunks=[(first, 5), (second, 2)])), first, second)
    read(served.run(plan([first, second], [(third, 4)])), first, second)
    read(served.run(plan([first, second], [(third, 5), (fourth, 3)])), first, second, third, fourth)
    assert model.calls == [(1, 7), (1, 6), (1, 10)], (
        f"each step is one call with all its tokens in one row, so that the weights are read once; the calls were {model.calls}"
    )
    finish(served, first, second, third, fourth)
    assert_said(toy, first, second, third, fourth)


def test_task_5_logits_only_for_those_who_get_a_token(toy: ToyModel) -> None:
    shapes: list[tuple[int, ...]] = []

    class Watched(ToyModel):
        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            logits = super().__call__(*args, **kwargs)
            shapes.append(logits.shape[:2])
            return logits

    served = runner(Watched())
    reader, other = seat(ask(20, 4), 1, 2, 3, 4, 5, 6), seat(ask(5, 4, seed=1), 7, 8, 9)
    served.run(plan(chunks=[(reader, 12)]))
    served.run(plan(chunks=[(other, 5), (reader, 3)]))
    served.run(plan([other], [(reader, 5)]))
    assert shapes == [(1, 0), (1, 1), (1, 2)], (
        f"the product with the vocabulary is the widest of all: logits are computed for 0, 1 and 2 places here, not {shapes}"
    )


def test_task_5_a_decode_s_input_never_visits_the_host(toy: ToyModel) -> None:
    served = runner(toy)
    requests = [seat(ask(length, 9, length), 3 * i, 3 * i + 1, 3 * i + 2, 3 * i + 12) for i, length in enumerate((5, 2, 6))]
    steps = [served.run(plan(chunks=[(request, len(request.prompt)) for request in requests]))]
    steps += [served.run(plan(requests)) for _ in range(8)]
    for request in requests:
        assert (request.in_flight, request.generated_tokens) == (9, []), "nine steps were launched, and none was read"
    for step in steps:
        read(step, *requests)
    assert_said(toy, *requests)


def test_task_5_rows_may_change_places_between_steps(toy: ToyModel) -> None:
    served = runner(toy)
    one, two, three = (seat(ask(4, 8, seed), 5 * seed, 5 * seed + 1, 5 * seed + 2) for seed in range(3))
    late = seat(ask(6, 8, seed=4), 20, 21, 22, 23)
    steps = [served.run(plan(chunks=[(one, 4), (two, 4), (three, 4)]))]
    steps.append(served.run(plan([three, one, two])))
    steps.append(served.run(plan([two, three, one], [(late, 4)])))
    steps.append(served.run(plan([three, two, one], [(late, 2)])))
    steps.append(served.run(plan([late, one, three, two])))
    steps.append(served.run(plan([two, late, one, three])))
    for step in steps:
        read(step, *step[0])
    assert_said(toy, one, two, three, late)
    assert [len(request.generated_tokens) for request in (one, two, three, late)] == [6, 6, 6, 3], "one for each step"


def test_task_5_a_request_that_sat_out_a_step(toy: ToyModel) -> None:
    served = runner(toy)
    one, two = seat(ask(5, 9), 3, 8, 1, 2), seat(ask(3, 9, seed=1), 20, 5, 6)
    read(served.run(plan(chunks=[(one, 5), (two, 3)])), one, two)
    for _ in range(2):
        read(served.run(plan([one])), one)  # there is no block for the other, say
    read(served.run(plan([two, one])), two, one)
    finish(served, one, two)
    assert_said(toy, one, two)


@pytest.mark.parametrize("cut", [None, 3, 8, 9])
def test_task_5_a_preempted_request_computes_its_answer_again(toy: ToyModel, cut: int | None) -> None:
    served, request = runner(toy), seat(ask(6, 10), 7, 2, 9)
    read(served.run(plan(chunks=[(request, 6)])), request)
    for _ in range(3):
        read(served.run(plan([request])), request)
    request.offset, request.blocks = 0, [1, 0, 4, 12]  # all is lost, and it has other blocks
    for start, end in pairwise([0, *([cut] if cut else []), 10]):
        result = served.run(plan(chunks=[(request, end - start)]))
        assert (result is None) == (end < 10), (
            "its ten known tokens, prompt and answer alike, are to be computed, and only the last of them asks for one"
        )
    read(result, request)
    finish(served, request)
    assert_said(toy, request)


WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 3.0, "seed": 1},
    {"repetition_penalty": 1.6},
    {"temperature": 2.0, "repetition_penalty": 1.4, "seed": 3},
    {"temperature": 4.0, "top_k": 5, "seed": 2},
]


def test_task_5_each_row_is_drawn_in_its_own_way(toy: ToyModel) -> None:
    served = runner(toy, 40)
    requests = [seat(ask(6, 9, sampling=answer.SamplingParams(**way)), *range(4 * i, 4 * i + 4)) for i, way in enumerate(WAYS)]
    served_first, served_later = requests[:2], requests[2:]
    read(served.run(plan(chunks=[(request, 6) for request in served_first])), *served_first)
    result = served.run(plan(served_first, [(request, 6) for request in served_later]))
    read(result, *requests)
    finish(served, *requests)
    for request in requests:
        said, expected = request.generated_tokens, drawn_alone(toy, request, request.max_tokens)
        assert said == expected, f"{request.sampling}: its own sampler draws {expected} after the tokens before, not {said}"


def test_task_5_a_preempted_request_draws_the_same_tokens(toy: ToyModel) -> None:
    for way in WAYS:
        served = runner(toy)
        request = seat(ask(6, 9, sampling=answer.SamplingParams(**way)), 7, 2, 9, 3)
        read(served.run(plan(chunks=[(request, 6)])), request)
        for _ in range(3):
            read(served.run(plan([request])), request)
        request.offset = 0
        assert served.run(plan(chunks=[(request, 7)])) is None, "its known tokens are ten"
        read(served.run(plan(chunks=[(request, 3)])), request)
        finish(served, request)
        assert request.generated_tokens == drawn_alone(toy, request, 9), (
            f"{request.sampling}: a draw follows from the seed, the position and all tokens before it, those of the answer"
            " included, and so it survives the loss of its blocks"
        )


@pytest.mark.parametrize("way", WAYS)
def test_task_5_the_runner_waits_for_nothing(toy: ToyModel, way: dict[str, Any]) -> None:
    model = UnreadableModel(toy, inner=True)
    served = runner(model)
    one, two = (
        seat(ask(4, 20, seed, sampling=answer.SamplingParams(**way)), *range(8 * seed, 8 * seed + 8)) for seed in range(2)
    )
    model.broken = True
    with waits_for_nothing("run"):
        served.run(plan(chunks=[(one, 4)]))
        served.run(plan([one], [(two, 3)]))
        served.run(plan([one], [(two, 1)]))
        served.run(plan([two, one]))


def test_task_5_copy_block_copies_all_layers(toy: ToyModel) -> None:
    served, first = runner(toy), seat(ask(8, 5), 3, 6, 1, 9)
    served.run(plan(chunks=[(first, 8)]))
    served.copy_block(3, 11)
    served.copy_block(6, 17)
    second = seat(ask(8, 5), 11, 17, 5, 4)
    second.offset = 7  # all but the last token are in the copies
    read(served.run(plan([second])), second)
    finish(served, second)
    assert_said(toy, second)


def test_task_5_says_which_tokens_mean_nothing() -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    served = runner(sick)
    healthy, poisoned = seat(ask(5, 4), 3, 8, 1), seat(answer.PagedRequest([1, 2, POISON], 4), 20)
    _, drawn = served.run(plan(chunks=[(healthy, 5), (poisoned, 3)]))
    assert drawn.best.shape == (2,), "the largest logit of each row that gets a token"
    assert np.isfinite(np.array(drawn.best)).tolist() == [True, False], (
        "the second row's logits are NaN, and the reader of the tokens can tell from `best`; the first row's are not"
    )


def test_task_5_nan_of_a_neighbour_or_an_earlier_owner_harms_nobody(toy: ToyModel) -> None:
    sick = ToyModel()
    sick.token_embedding[POISON] = mx.nan
    served = runner(sick)
    poisoned = seat(answer.PagedRequest([POISON] * 9, 4), 0, 1, 2)
    beside = seat(ask(5, 9, seed=1), 3, 4, 5, 6)
    read(served.run(plan(chunks=[(beside, 5), (poisoned, 9)])), beside, poisoned)
    read(served.run(plan([beside, poisoned])), beside, poisoned)
    after = seat(ask(2, 9), 2, 0, 1)
    read(served.run(plan([beside], [(after, 2)])), beside, after)
    finish(served, beside, after)
    assert_said(toy, beside, after)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_5_on_every_architecture(architecture: str) -> None:
    config = tiny_config(architecture)
    weights = random_weights(config)
    served = runner(answer.Model(config, weights))
    one, two = seat(ask(7, 5), 3, 8, 1, 12), seat(ask(10, 5, seed=1), 20, 5, 6, 0)
    read(served.run(plan(chunks=[(one, 7), (two, 3)])), one)
    read(served.run(plan([one], [(two, 7)])), one, two)
    finish(served, one, two)
    oracle = mlx_lm_model(config, weights)
    for request in (one, two):
        for known in range(5):
            logits = np.array(oracle(mx.array([[*request.prompt, *request.generated_tokens[:known]]]))[0, -1])
            token = request.generated_tokens[known]
            assert logits[token] > logits.max() - 1e-2, (
                f"{architecture}: token {known} is {token}, alone it is {logits.argmax()}"
            )
