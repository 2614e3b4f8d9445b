"""Week 3 Day 6, task 2: a bias per token, and log-probabilities, first by hand and then in both engines."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from day6_engines import engine as slot_engine
from launching_ahead import waits_for_nothing
from paged_engines import engine, serve
from support import ToyModel, alone, assert_alone, expect_no_error, finish_all
from week3.day6_server.bodies import chat
from week3.day6_server.sampling_for_clients import VOCABULARY, ask, make_logits, make_sampler


def log_softmax(logits: mx.array) -> np.ndarray:
    scores = np.array(logits.astype(mx.float32), dtype=np.float64)
    return scores - scores.max() - np.log(np.exp(scores - scores.max()).sum())


@pytest.mark.parametrize("dtype", [mx.float32, mx.float16, mx.bfloat16])
def test_task_2_bias(dtype: mx.Dtype) -> None:
    logits = make_logits(0).astype(dtype)
    before = np.array(logits.astype(mx.float32))
    assert int(make_sampler(logit_bias={7: 100.0})(logits, [])) == 7, "a bias of 100 makes a token certain"
    best = int(mx.argmax(logits))
    assert int(make_sampler(logit_bias={best: -100.0})(logits, [])) != best, "a bias of -100 rules a token out"
    order = mx.argsort(-logits.astype(mx.float32)).tolist()
    banned = dict.fromkeys(order[:3], -100.0)
    assert int(make_sampler(logit_bias=banned)(logits, [])) == order[3], "each of three tokens has its bias"
    assert np.array_equal(np.array(logits.astype(mx.float32)), before), "the logits belong to all rows: they are not changed"


def test_task_2_bias_comes_first() -> None:
    logits = mx.array([2.0, 1.0] + [-50.0] * (VOCABULARY.size - 2))
    params = answer.SamplingParams(repetition_penalty=2.0)
    sampler = answer.ClientSampler(params, VOCABULARY, 0, logit_bias={0: 1.5})
    assert int(sampler(logits, [0])) == 0, "(2 + 1.5) / 2 is more than 1: the bias is added before the penalty"
    close = mx.array([1.0, 1.9] + [-50.0] * (VOCABULARY.size - 2))
    assert int(sampler(close, [0])) == 1, "(1 + 1.5) / 2 is less than 1.9: the bias is added before the penalty"
    cold = answer.SamplingParams(temperature=0.01, seed=3)
    drawn = {int(answer.ClientSampler(cold, VOCABULARY, 0, logit_bias={1: 2.0})(logits, [5] * place)) for place in range(20)}
    assert drawn == {1}, "1 + 2 against 2, divided by 0.01, is certain: the bias is added before the temperature"


def test_task_2_bias_on_a_token_that_there_is_not() -> None:
    make_sampler(logit_bias={VOCABULARY.size - 1: 1.0})(make_logits(0), [])
    with pytest.raises(answer.ApiError) as caught:
        make_sampler(logit_bias={VOCABULARY.size: 1.0})
    assert (caught.value.status, caught.value.as_json()["error"]["param"]) == (400, "logit_bias"), (
        "a token beyond the vocabulary is the client's mistake, and its field is named"
    )


def test_task_2_nothing_asked_is_a_plain_sampler() -> None:
    for temperature in (0.0, 0.8):
        plain = answer.Sampler(answer.SamplingParams(temperature=temperature, seed=5))
        sampler = make_sampler(temperature=temperature, seed=5)
        assert sampler.greedy == plain.greedy, "a request that asks for nothing shares the argmax of all rows"
        for place in range(10):
            logits, tokens = make_logits(place), [1] * place
            assert int(sampler(logits, tokens)) == int(plain(logits, tokens)), "the same seed and position, the same token"


@pytest.mark.parametrize("options", [{"logit_bias": {1: 1.0}}, {"alternatives": 0}, {"schema": {}}])
def test_task_2_not_greedy(options: dict[str, Any]) -> None:
    sampler = make_sampler(**options)
    assert not sampler.greedy, f"{options}: a greedy row is never given to its sampler"
    sampler(make_logits(0), [])


@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_task_2_logprobs_are_the_models(dtype: mx.Dtype) -> None:
    logits = make_logits(1).astype(dtype)
    expected = log_softmax(logits)
    best = np.argsort(-expected)[:3].tolist()
    sampler = make_sampler(alternatives=3, temperature=0.7, logit_bias={9: 100.0})
    assert int(sampler(logits, [1, 2])) == 9
    found = sampler.logprobs_at(2)
    assert (found.token, found.bytes) == ("\t", [9])
    # float32 sums of 260 exponentials; a bias, a temperature or half precision would make a difference of more than 0.01
    assert found.logprob == pytest.approx(expected[9], abs=1e-4), "log-softmax of the model's own logits, without the bias"
    assert [one.bytes for one in found.top_logprobs] == [list(VOCABULARY.bytes_of(token)) for token in best]
    assert [one.logprob for one in found.top_logprobs] == pytest.approx(expected[best].tolist(), abs=1e-4)


def test_task_2_as_many_as_asked() -> None:
    sampler = make_sampler(alternatives=5)
    sampler(make_logits(2), [])
    assert len(sampler.logprobs_at(0).top_logprobs) == 5
    assert len(sampler.logprobs_at(0, 2).top_logprobs) == 2
    assert sampler.logprobs_at(0, 2).top_logprobs == sampler.logprobs_at(0).top_logprobs[:2], "the likeliest come first"
    assert sampler.logprobs_at(0, 0).top_logprobs == []
    none = make_sampler(alternatives=0)
    none(make_logits(2), [])
    assert none.logprobs_at(0).top_logprobs == [], "0 alternatives: only the token's own"
    assert none.logprobs_at(0).logprob == sampler.logprobs_at(0).logprob


def test_task_2_impossible_is_a_number() -> None:
    logits = mx.where(mx.arange(VOCABULARY.size) < 2, mx.array(0.0), mx.array(-mx.inf))
    sampler = make_sampler(alternatives=3)
    sampler(logits, [])
    least = sampler.logprobs_at(0).top_logprobs[2].logprob
    assert least == -9999.0, "JSON knows no -inf: OpenAI writes -9999.0"


def test_task_2_filed_by_position() -> None:
    sampler = make_sampler(alternatives=1)
    for place in (4, 5):
        sampler(make_logits(place), [1] * place)
    five = sampler.logprobs_at(5)
    sampler(make_logits(77), [1] * 6)  # drawn, and thrown away
    sampler(make_logits(6), [1] * 6)
    assert sampler.logprobs_at(6).bytes == list(VOCABULARY.bytes_of(int(mx.argmax(make_logits(6))))), "the last draw counts"
    assert sampler.logprobs_at(5) == five, "and nothing else changes"
    with pytest.raises(ValueError, match="3"):
        sampler.logprobs_at(3)
    with pytest.raises(ValueError, match="0"):
        make_sampler().logprobs_at(0)


def test_task_2_partial_letters() -> None:
    sampler = make_sampler(alternatives=0, logit_bias={0xE2: 100.0})
    sampler(make_logits(0), [])
    found = sampler.logprobs_at(0)
    assert (found.token, found.bytes) == ("bytes:\\xe2", [0xE2]), "a part of a letter is no text, and still has its bytes"


def test_task_2_unread_tokens_stay_unread() -> None:
    with ThreadPoolExecutor(1) as elsewhere:
        unread = elsewhere.submit(lambda: mx.zeros((1,), dtype=mx.uint32) + 0).result()[0]  # and it never can be
    for options in ({"logit_bias": {5: 1.0}}, {"alternatives": 2}, {"temperature": 0.5, "alternatives": 0}):
        sampler = make_sampler(**options)
        with waits_for_nothing(f"a sampler with {options}"):
            sampler(make_logits(0) + unread, [1, 2, unread])


@pytest.mark.parametrize("paged", [True, False])
def test_task_2_logprobs_in_the_engine(toy: ToyModel, paged: bool) -> None:
    def sampler(length: int) -> Any:
        return make_sampler(length, alternatives=2)

    asked = ask(5, 8, sampler, paged=paged)
    plain = ask(7, 8, seed=1, paged=paged)
    run(toy, paged, asked, plain)
    assert_alone(toy, asked, plain)
    for place, token in enumerate(asked.generated_tokens):
        before = asked.tokens[: 5 + place]
        expected = log_softmax(toy(mx.array([before]), logits_to_keep=1)[0, -1])
        found = asked.sampler.logprobs_at(5 + place)
        assert found.bytes == [token], f"token {place} of the answer is {token}, and recorded is {found.bytes}"
        # rows of a batch are summed in another order, which moves the toy's logits by about 1e-5
        assert found.logprob == pytest.approx(expected[token], abs=1e-3)
        assert found.top_logprobs[0].logprob == pytest.approx(expected.max(), abs=1e-3)


@pytest.mark.parametrize("paged", [True, False])
def test_task_2_a_bias_is_one_rows_business(toy: ToyModel, paged: bool) -> None:
    first = alone(toy, ask(5, 1).prompt, 1)[0]

    def sampler(length: int) -> Any:
        return make_sampler(length, logit_bias={first: -100.0})

    asked = ask(5, 8, sampler, paged=paged)
    others = [ask(5, 8, paged=paged), ask(7, 8, seed=1, paged=paged)]
    run(toy, paged, others[0], asked, others[1])
    assert_alone(toy, *others)
    assert first not in asked.generated_tokens, "a token with a bias of -100 is never drawn"


def test_task_2_logprobs_survive_preemption(toy: ToyModel) -> None:
    def sampler(length: int) -> Any:
        return make_sampler(length, alternatives=2)

    quiet, tossed = ask(5, 10, sampler), ask(5, 10, sampler)
    serve(engine(toy), quiet)
    served = engine(toy)
    served.submit(tossed)
    for _ in range(60):
        if not served.has_work:
            break
        served.step()
        if tossed.request_id in served.running and len(tossed.generated_tokens) in (2, 5) and tossed.preemptions < 2:
            served.preempt(tossed)
    expect_no_error(tossed)
    assert tossed.preemptions == 2
    assert tossed.generated_tokens == quiet.generated_tokens, (
        "each token is a function of those before it: preemption changes none"
    )
    for position in range(5, 15):
        one, other = quiet.sampler.logprobs_at(position), tossed.sampler.logprobs_at(position)
        assert one.token == other.token, f"position {position}: records go by position, and not by the number of draws"
        assert one.logprob == pytest.approx(other.logprob, abs=1e-3), (
            f"position {position}: a token that is computed again has the same chance"
        )


def test_task_2_from_a_body() -> None:
    body = chat(logprobs=True, top_logprobs=2, logit_bias={"9": 100}, temperature=0, seed=3, n=2)
    sampler = answer.client_sampler(body, VOCABULARY, 4, choice=1)
    assert sampler.params.seed == 4, "choice 1 of seed 3 draws with seed 4"
    assert int(sampler(make_logits(0), [1] * 4)) == 9, "the body's bias of 100 leaves token 9 alone"
    assert len(sampler.logprobs_at(4).top_logprobs) == 2, (
        "the body asks for two alternatives; the first token after a prompt of 4 has position 4"
    )


def run(toy: ToyModel, paged: bool, *requests: Any) -> None:
    """Serve these to the end, all of them together, in either engine."""
    if paged:
        serve(engine(toy), *requests)
    else:
        served = slot_engine(toy)
        for request in requests:
            served.submit(request)
        finish_all(served)
    expect_no_error(*requests)
