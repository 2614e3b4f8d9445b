"""Task 4, third part: the engine. Each request's tokens are drawn in its own way, whatever runs alongside it."""

from itertools import count, islice
from typing import Any

import pytest

from answer import answer
from day6_engines import ask, drawn_alone, engine
from support import NearTie, ToyModel, alone, assert_alone, expect_no_error, finish_all, make_prompt

WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 3.0, "seed": 1},
    {"temperature": 3.0, "seed": 2},
    {"temperature": 4.0, "top_k": 5, "seed": 1},
    {"temperature": 2.0, "repetition_penalty": 1.4, "seed": 3},
    {"repetition_penalty": 1.6},
]


def assert_drawn_alone(toy: ToyModel, *requests: Any) -> None:
    __tracebackhide__ = True
    expect_no_error(*requests)
    for request in requests:
        said, expected = request.generated_tokens, drawn_alone(toy, request, request.max_tokens)
        same = next((i for i, (one, other) in enumerate(zip(said, expected, strict=False)) if one != other), len(said))
        assert said == expected, (
            f"{request.sampling}: token {same} of the answer is not what its own sampler draws after the tokens before it"
            + (", which are the prompt's, since the first token is drawn like any other" if same == 0 else "")
        )


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("max_tokens", [1, 2, 9])
def test_task_4_engine_draws_each_token_by_the_sampler(toy: ToyModel, way: dict[str, Any], max_tokens: int) -> None:
    scheduler = engine(toy)
    request = scheduler.submit(ask(6, max_tokens, sampling=answer.SamplingParams(**way)))
    finish_all(scheduler)
    assert_drawn_alone(toy, request)


def test_task_4_engine_draws_the_first_token_of_each_seed(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    requests = [scheduler.submit(ask(6, 2, sampling=answer.SamplingParams(temperature=5.0, seed=seed))) for seed in range(12)]
    finish_all(scheduler)
    assert len({request.generated_tokens[0] for request in requests}) > 3, (
        "the same prompt and twelve seeds: the token that comes from the prefill is sampled, too, each by its own seed"
    )
    assert_drawn_alone(toy, *requests)


def test_task_4_engine_draws_the_same_for_the_same_seed(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=3)
    sampling = answer.SamplingParams(temperature=3.0, seed=7)
    twins = [scheduler.submit(ask(6, 10, sampling=sampling)) for _ in range(2)]
    between = [scheduler.submit(ask(4, 3, seed, sampling=sampling)) for seed in range(3)]
    twins.append(scheduler.submit(ask(6, 10, sampling=sampling)))
    finish_all(scheduler)
    assert_drawn_alone(toy, *twins, *between)


def test_task_4_engine_penalizes_the_prompt_at_the_first_token(toy: ToyModel) -> None:
    def is_told_apart(seed: int) -> bool:
        try:
            return alone(toy, make_prompt(30, seed), 1) != alone(toy, make_prompt(30, seed), 1, penalty=3.0)
        except NearTie:
            return False

    sampling = answer.SamplingParams(repetition_penalty=3.0)
    scheduler = engine(toy, slots=3)
    seeds = islice(filter(is_told_apart, count()), 4)
    requests = [scheduler.submit(ask(30, 1, seed, sampling=sampling)) for seed in seeds]
    finish_all(scheduler)
    for request in requests:
        assert request.generated_tokens == alone(toy, request.prompt, 1, penalty=3.0), (
            "without a penalty the first token would repeat one of the prompt: the sampler must be given the prompt's tokens"
        )


def test_task_4_engine_draws_for_rows_that_move(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=4)
    lengths = [(5, 3), (4, 14), (7, 6), (3, 16), (6, 9), (8, 2), (2, 12)]
    requests = [
        scheduler.submit(ask(length, max_tokens, length, sampling=answer.SamplingParams(**WAYS[i % len(WAYS)])))
        for i, (length, max_tokens) in enumerate(lengths)
    ]
    finish_all(scheduler)
    assert_drawn_alone(toy, *requests)


def test_task_4_engine_draws_for_everyone_in_his_own_way(toy: ToyModel) -> None:
    scheduler = engine(toy, slots=5)
    requests = [scheduler.submit(ask(6, 16, sampling=answer.SamplingParams(**way))) for way in WAYS]
    finish_all(scheduler)
    assert_drawn_alone(toy, *requests)
    answers = {tuple(request.generated_tokens) for request in requests}
    assert len(answers) == len(WAYS), "the same prompt, but six ways to sample: is each request's own sampling used?"
    assert_alone(toy, requests[0])


def test_task_4_engine_repetition_penalty_in_a_batch(toy: ToyModel) -> None:
    penalties = (1.0, 1.3, 2.0)
    scheduler = engine(toy, slots=3)
    requests = [
        scheduler.submit(ask(8, 20, sampling=answer.SamplingParams(repetition_penalty=penalty))) for penalty in penalties
    ]
    finish_all(scheduler)
    expect_no_error(*requests)
    for request, penalty in zip(requests, penalties, strict=True):
        assert request.generated_tokens == alone(toy, make_prompt(8), 20, penalty=penalty), (
            f"with repetition_penalty={penalty}: tokens of its own prompt and answer are less likely, and no others"
        )


@pytest.mark.parametrize("delivered", [1, 4, 11])
def test_task_4_engine_an_answer_can_be_continued_elsewhere(toy: ToyModel, delivered: int) -> None:
    sampling = answer.SamplingParams(temperature=3, repetition_penalty=1.2, seed=5)
    scheduler = engine(toy)
    whole = scheduler.submit(ask(6, 16, sampling=sampling))
    scheduler.submit(ask(9, 12, seed=1, sampling=sampling))
    finish_all(scheduler)
    scheduler = engine(toy, slots=3)
    rest = scheduler.submit(answer.Request(whole.tokens[: 6 + delivered], 16 - delivered, sampling))
    finish_all(scheduler)
    expect_no_error(whole, rest)
    assert rest.generated_tokens == whole.generated_tokens[delivered:], (
        "a draw follows from the seed, the position and the tokens before it, so another engine that is given these goes on"
        " with the same tokens"
    )
