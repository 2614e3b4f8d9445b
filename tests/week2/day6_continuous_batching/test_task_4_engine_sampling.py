"""Task 4, third part: the engine. Everyone's tokens are drawn in his own way."""

import pytest

from answer import answer
from day6_engines import ask, engine
from support import ToyModel, alone, assert_alone, finish_all, make_prompt


def test_task_4_engine_everyone_samples_in_his_own_way(toy: ToyModel) -> None:
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


def test_task_4_engine_repetition_penalty_in_a_batch(toy: ToyModel) -> None:
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
def test_task_4_engine_an_answer_can_be_continued_elsewhere(toy: ToyModel, delivered: int) -> None:
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


def test_task_4_engine_the_first_token_is_drawn_like_any_other(toy: ToyModel) -> None:
    firsts = set()
    for seed in range(12):
        scheduler = engine(toy)
        request = scheduler.submit(ask(6, 1, sampling=answer.SamplingParams(temperature=5, seed=seed)))
        finish_all(scheduler)
        firsts.add(request.generated_tokens[0])
    assert len(firsts) > 3, "the token that comes from the prefill is sampled, too"
