"""Task 3: batch generation, what is answered. The schedule and what is refused have files of their own."""

from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from support import CountingModel, RealModel, ToyModel, alone, expect_no_error, make_prompt, until_eos
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()
TEXTS = ["a", "What is a batch?", "The quick brown fox jumps over the lazy dog.", "ab", "12345", "Hello, world", "z" * 30]


class Ending(ByteTokenizer):
    """Calls other tokens the end of an answer."""

    def __init__(self, *eos_token_ids: int) -> None:
        self.eos_token_ids = frozenset(eos_token_ids)


class Repeating:
    """Repeats the letter with which its prompt ends, byte by byte, and has caches as any other model does."""

    LETTERS = ("é", "Ж", "中", "🙂")  # no two of them share a byte

    def __init__(self, toy: ToyModel) -> None:
        self.toy, self.config = toy, toy.config
        scores = np.zeros((toy.config.vocab_size, toy.config.vocab_size), np.float32)
        for letter in map(str.encode, self.LETTERS):
            for byte, following in zip(letter, letter[1:] + letter[:1], strict=True):
                scores[byte, following] = 9
        self.scores = mx.array(scores)

    def __call__(self, tokens: mx.array, *args: Any, **kwargs: Any) -> mx.array:
        logits = self.toy(tokens, *args, **kwargs)
        return 0 * logits + self.scores[tokens[:, tokens.shape[1] - logits.shape[1] :]]


def assert_answers(toy: ToyModel, results: Sequence[Any], prompts: Sequence[Sequence[int]], tokens: int) -> None:
    """A result for each prompt, in this order, with the `tokens` tokens that the prompt gets alone."""
    assert len(results) == len(prompts), "a request is returned for each prompt"
    expect_no_error(*results)
    for number, (prompt, result) in enumerate(zip(prompts, results, strict=True)):
        assert list(result.prompt) == list(prompt), f"result {number} is another prompt's: keep the prompts' order"
        assert result.generated_tokens == alone(toy, prompt, tokens), (
            f"result {number} is another answer than alone: are all the arguments handed on, to the engine and to each request?"
        )
        assert (result.state, result.finish_reason) == ("finished", "length"), f"result {number} has all its {tokens} tokens"


def test_task_3_no_prompts_no_answers(toy: ToyModel) -> None:
    model = CountingModel(toy)
    assert answer.batch_generate(model, TOKENIZER, []) == [], "no prompts, no answers"
    assert model.calls == [], "with nothing to do the model is not called"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 20])
def test_task_3_everyone_is_answered_as_if_alone(toy: ToyModel, batch_size: int) -> None:
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, 60, batch_size, max_tokens=12)
    assert_answers(toy, results, [TOKENIZER.encode(text) for text in TEXTS], 12)


def test_task_3_one_token_is_an_answer(toy: ToyModel) -> None:
    assert_answers(
        toy, answer.batch_generate(toy, TOKENIZER, TEXTS, 60, max_tokens=1), [TOKENIZER.encode(text) for text in TEXTS], 1
    )


def test_task_3_results_are_in_the_order_of_the_prompts(toy: ToyModel) -> None:
    tokenizer = Ending(*range(32, 60))  # so that answers end at very different times
    results = answer.batch_generate(toy, tokenizer, TEXTS, 80, 3, max_tokens=30)
    expect_no_error(*results)
    assert [list(result.prompt) for result in results] == [tokenizer.encode(text) for text in TEXTS], (
        "requests end in another order than they came in: return those that you made, not those that `run` returns"
    )
    assert len({len(result.generated_tokens) for result in results}) > 3, (
        "the test means to compare answers of different lengths"
    )


def test_task_3_prompts_may_be_token_ids(toy: ToyModel) -> None:
    prompts = (make_prompt(4), tuple(make_prompt(9)), "text")
    results = answer.batch_generate(toy, TOKENIZER, prompts, max_tokens=6)
    assert_answers(toy, results, [prompts[0], prompts[1], TOKENIZER.encode("text")], 6)


def test_task_3_equal_prompts_are_separate_requests(toy: ToyModel) -> None:
    prompt = make_prompt(4)
    results = answer.batch_generate(toy, TOKENIZER, ["same", "same", prompt, prompt, "same"], batch_size=3, max_tokens=7)
    assert_answers(toy, results, [*[TOKENIZER.encode("same")] * 2, prompt, prompt, TOKENIZER.encode("same")], 7)
    assert len({id(result) for result in results}) == 5, (
        "two prompts that are equal share a request object: each prompt gets a request of its own"
    )


def test_task_3_max_seq_len_limits_prompt_and_answer_together(toy: ToyModel) -> None:
    lengths = [1, 7, 19]
    results = answer.batch_generate(toy, TOKENIZER, [make_prompt(length) for length in lengths], max_seq_len=20)
    expect_no_error(*results)
    for length, result in zip(lengths, results, strict=True):
        assert result.generated_tokens == alone(toy, make_prompt(length), 20 - length), (
            f"a prompt of {length} tokens leaves {20 - length} for the answer, and without max_tokens all are used"
        )
        assert result.finish_reason == "length", f"an answer that fills max_seq_len ended with {result.finish_reason!r}"


def test_task_3_eos_ends_an_answer(toy: ToyModel) -> None:
    free = [alone(toy, TOKENIZER.encode(text), 20) for text in TEXTS]
    eos = {free[0][0], free[1][5], free[2][11]}  # one ends at its very first token
    results = answer.batch_generate(toy, Ending(*eos), TEXTS, batch_size=3, max_tokens=20)
    expect_no_error(*results)
    for tokens, result in zip(free, results, strict=True):
        expected = until_eos(tokens, eos)
        assert result.generated_tokens == expected, (
            "the answer ends before its first EOS, and nowhere else: the tokenizer knows which tokens those are"
        )
        reason = "stop" if len(expected) < 20 else "length"
        assert result.finish_reason == reason, f"{len(expected)} of 20 tokens, and it ended with {result.finish_reason!r}"


def test_task_3_text_is_the_decoded_answer(toy: ToyModel) -> None:
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=3, max_tokens=10)
    expect_no_error(*results)
    for result in results:
        assert result.text, "the toy model writes a printable letter with each token: does the request have a detokenizer?"
        assert result.text == TOKENIZER.decode(result.generated_tokens), "the text is that of other tokens"


@pytest.mark.parametrize("tokens", [11, 12])  # 11 bytes are no whole number of any of these letters but the first
def test_task_3_half_letters_stay_with_their_request(toy: ToyModel, tokens: int) -> None:
    """A letter is 2 to 4 tokens here, and those of all requests come in turn."""
    results = answer.batch_generate(Repeating(toy), TOKENIZER, Repeating.LETTERS, batch_size=3, max_tokens=tokens)
    expect_no_error(*results)
    for letter, result in zip(Repeating.LETTERS, results, strict=True):
        whole = letter * (tokens // len(letter.encode()))
        assert result.text.startswith(whole), (
            f"the answer should begin with {whole!r} and is {result.text!r}: a detokenizer holds half a letter back until its"
            " other half comes, so each request needs one of its own"
        )
        assert result.text == TOKENIZER.decode(result.generated_tokens), "half a letter at the end is shown as such"


def test_task_3_stop_strings_end_an_answer(toy: ToyModel) -> None:
    free = [TOKENIZER.decode(alone(toy, TOKENIZER.encode(text), 20)) for text in TEXTS]
    stop = [free[0][4:7], free[3][9:11]]  # three and two tokens of the toy model
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=4, max_tokens=20, stop=stop)
    expect_no_error(*results)
    for text, result in zip(free, results, strict=True):
        ends = [text.find(string) for string in stop if string in text]
        assert result.text == text[: min(ends, default=None)], (
            f"{stop} end the text where they begin, and count for every prompt"
        )
        assert result.finish_reason == ("stop" if ends else "length"), f"it ended with {result.finish_reason!r}"


def test_task_3_sampling_is_that_of_every_request(toy: ToyModel) -> None:
    params = answer.SamplingParams(repetition_penalty=1.5)
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=3, max_tokens=10, sampling=params)
    expect_no_error(*results)
    for text, result in zip(TEXTS, results, strict=True):
        assert result.generated_tokens == alone(toy, TOKENIZER.encode(text), 10, penalty=1.5), (
            f"the answer to {text!r} is not drawn as `sampling` says, from this request's own tokens"
        )


def test_task_3_sampling_does_not_depend_on_company(toy: ToyModel) -> None:
    def drawn(texts: Sequence[str], seed: int = 1, batch_size: int = 3) -> list[list[int]]:
        params = answer.SamplingParams(temperature=5, seed=seed)
        results = answer.batch_generate(toy, TOKENIZER, texts, batch_size=batch_size, max_tokens=8, sampling=params)
        expect_no_error(*results)
        return [result.generated_tokens for result in results]

    together = drawn([*TEXTS[:4], TEXTS[1]])
    assert drawn(TEXTS[1:3]) == together[1:3], (
        "with other neighbours the same prompt and seed draw other tokens: each request has a sampler of its own, and the seed"
        " is the one given, whatever the request's place in the list"
    )
    assert together[1] == together[4], "the same prompt, given twice, draws the same tokens: seed and parameters are the same"
    assert drawn(TEXTS[:4], seed=2)[1:4] != together[1:4], "another seed draws other tokens"
    assert together[1] != alone(toy, TOKENIZER.encode(TEXTS[1]), 8), "at temperature 5 the likeliest tokens are not what comes"


@pytest.mark.real_model
def test_task_3_the_real_model_says_what_mlx_lm_says(toy: ToyModel, request: pytest.FixtureRequest) -> None:
    assert answer.batch_generate(toy, TOKENIZER, []) == []  # before the real model is loaded, which takes a while
    real: RealModel = request.getfixturevalue("real")
    prompts = [real.chat(text) for text in ("Name three primes.", "Hi!", "Write one sentence about the sea, and one about it.")]
    model = CountingModel(answer.Model(real.loaded.config, real.loaded.weights))
    results = answer.batch_generate(model, real.tokenizer, prompts, 128, 2, 32, max_tokens=10)
    expect_no_error(*results)
    for prompt, result in zip(prompts, results, strict=True):
        expected = real.alone(prompt, 10, result.generated_tokens)
        assert result.generated_tokens == expected, f"mlx-lm's answer is {real.tokenizer.decode(expected)!r}"
        assert result.text == real.tokenizer.decode(expected), "the tokens are right, and their text is not"
    assert max(model.decode_rows) == 2, "two slots, and never two rows in a decode step"
