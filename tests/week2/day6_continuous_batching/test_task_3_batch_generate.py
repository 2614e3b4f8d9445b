"""Task 3: batch generation."""

import pytest

from answer import answer
from support import CountingModel, RealModel, ToyModel, alone, make_prompt, until_eos
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()
TEXTS = ["a", "What is a batch?", "The quick brown fox jumps over the lazy dog.", "ab", "12345", "Hello, world", "z" * 30]


class Ending(ByteTokenizer):
    """Calls other tokens the end of an answer."""

    def __init__(self, *eos_token_ids: int) -> None:
        self.eos_token_ids = frozenset(eos_token_ids)


def test_task_3_no_prompts_no_answers(toy: ToyModel) -> None:
    model = CountingModel(toy)
    assert answer.batch_generate(model, TOKENIZER, []) == []
    assert model.calls == [], "with nothing to do the model is not called"


@pytest.mark.parametrize("batch_size", [1, 2, 5, 20])
def test_task_3_everyone_is_answered_as_if_alone(toy: ToyModel, batch_size: int) -> None:
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, 60, batch_size, max_tokens=12)
    assert len(results) == len(TEXTS)
    for text, result in zip(TEXTS, results, strict=True):
        assert result.generated_tokens == alone(toy, TOKENIZER.encode(text), 12), (
            f"{text!r} got another answer than alone: look at positions, masks and slots. (Or are the results not in the"
            " order of the prompts?)"
        )
        assert (result.state, result.finish_reason, result.error) == ("finished", "length", None)


def test_task_3_results_are_in_the_order_of_the_prompts(toy: ToyModel) -> None:
    tokenizer = Ending(*range(32, 60))  # so that answers end at very different times
    results = answer.batch_generate(toy, tokenizer, TEXTS, 80, 3, max_tokens=30)
    ends = [len(result.generated_tokens) for result in results]
    assert [list(result.prompt) for result in results] == [tokenizer.encode(text) for text in TEXTS]
    assert len(set(ends)) > 3, "the test means to compare answers of different lengths"


def test_task_3_prompts_may_be_token_ids(toy: ToyModel) -> None:
    prompts = [make_prompt(4), make_prompt(9), "text"]
    results = answer.batch_generate(toy, TOKENIZER, prompts, max_tokens=6)
    expected = [alone(toy, prompt, 6) for prompt in (prompts[0], prompts[1], TOKENIZER.encode("text"))]
    assert [result.generated_tokens for result in results] == expected


def test_task_3_equal_prompts_are_separate_requests(toy: ToyModel) -> None:
    results = answer.batch_generate(toy, TOKENIZER, ["same"] * 4, batch_size=3, max_tokens=7)
    assert [result.generated_tokens for result in results] == [alone(toy, TOKENIZER.encode("same"), 7)] * 4


@pytest.mark.parametrize("prefill_step", [1, 3, 128])
def test_task_3_the_size_of_chunks_changes_no_answer(toy: ToyModel, prefill_step: int) -> None:
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, 60, 3, prefill_step, max_tokens=8)
    assert [r.generated_tokens for r in results] == [alone(toy, TOKENIZER.encode(text), 8) for text in TEXTS]


def test_task_3_requests_share_decode_steps(toy: ToyModel) -> None:
    model = CountingModel(toy)
    results = answer.batch_generate(model, TOKENIZER, TEXTS[:4], batch_size=4, max_tokens=20)
    tokens = sum(len(result.generated_tokens) for result in results)
    assert max(model.decode_rows) == 4, "four requests and four slots: decode all four in one call of the model"
    assert len(model.decode_rows) < tokens / 2, (
        f"{len(model.decode_rows)} decode calls for {tokens} tokens: that is one request after another, not a batch"
    )


def test_task_3_never_more_rows_than_slots(toy: ToyModel) -> None:
    model = CountingModel(toy)
    answer.batch_generate(model, TOKENIZER, TEXTS, batch_size=2, max_tokens=9)
    assert max(model.decode_rows) == 2, "batch_size is the number of slots"


def test_task_3_max_seq_len_limits_prompt_and_answer_together(toy: ToyModel) -> None:
    lengths = [1, 7, 19]
    results = answer.batch_generate(toy, TOKENIZER, [make_prompt(length) for length in lengths], max_seq_len=20)
    for length, result in zip(lengths, results, strict=True):
        assert result.generated_tokens == alone(toy, make_prompt(length), 20 - length), (
            f"a prompt of {length} tokens leaves {20 - length} for the answer, and without max_tokens all are used"
        )
        assert result.finish_reason == "length"


@pytest.mark.parametrize("length", [20, 21, 100])
def test_task_3_a_prompt_that_never_fits_is_refused_alone(toy: ToyModel, length: int) -> None:
    good = [make_prompt(5), make_prompt(12)]
    with pytest.warns(UserWarning, match="1 of 3"):  # no failure is silent, also when nobody looks at the results
        results = answer.batch_generate(toy, TOKENIZER, [good[0], make_prompt(length), good[1]], max_seq_len=20, max_tokens=6)
    assert [result.generated_tokens for result in results] == [alone(toy, good[0], 6), [], alone(toy, good[1], 6)], (
        "the others are served as if it were not there"
    )
    assert results[1].finish_reason == "error"
    assert isinstance(results[1].error, ValueError), "the result says why it was refused"


def test_task_3_an_empty_prompt_is_refused_alone(toy: ToyModel) -> None:
    with pytest.warns(UserWarning, match="1 of 2"):
        empty, good = answer.batch_generate(toy, TOKENIZER, ["", "good"], max_tokens=6)
    assert (empty.finish_reason, empty.generated_tokens) == ("error", [])
    assert isinstance(empty.error, ValueError), "the result says why it was refused"
    assert good.generated_tokens == alone(toy, TOKENIZER.encode("good"), 6), "one bad prompt must not spoil the others"


def test_task_3_eos_ends_an_answer(toy: ToyModel) -> None:
    free = [alone(toy, TOKENIZER.encode(text), 20) for text in TEXTS]
    eos = {free[0][0], free[1][5], free[2][11]}  # one ends at its very first token
    results = answer.batch_generate(toy, Ending(*eos), TEXTS, batch_size=3, max_tokens=20)
    for tokens, result in zip(free, results, strict=True):
        expected = until_eos(tokens, eos)
        assert result.generated_tokens == expected, "the answer ends before its first EOS, and nowhere else"
        assert result.finish_reason == ("stop" if len(expected) < 20 else "length")


def test_task_3_text_is_the_decoded_answer(toy: ToyModel) -> None:
    for result in answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=3, max_tokens=10):
        assert result.text == TOKENIZER.decode(result.generated_tokens)
        assert result.text, "the toy model writes a printable letter with each token"


def test_task_3_stop_strings_end_an_answer(toy: ToyModel) -> None:
    free = [TOKENIZER.decode(alone(toy, TOKENIZER.encode(text), 20)) for text in TEXTS]
    stop = [free[0][4:7], free[3][9:11]]  # three and two tokens of the toy model
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=4, max_tokens=20, stop=stop)
    for text, result in zip(free, results, strict=True):
        ends = [text.find(string) for string in stop if string in text]
        assert result.text == text[: min(ends, default=None)], f"{stop} end the text where they begin"
        assert result.finish_reason == ("stop" if ends else "length")


def test_task_3_sampling_holds_for_all(toy: ToyModel) -> None:
    penalty = answer.batch_generate(
        toy, TOKENIZER, TEXTS, batch_size=3, max_tokens=10, sampling=answer.SamplingParams(repetition_penalty=1.5)
    )
    assert [r.generated_tokens for r in penalty] == [alone(toy, TOKENIZER.encode(t), 10, penalty=1.5) for t in TEXTS]
    drawn = [
        [r.generated_tokens for r in answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=3, max_tokens=10, sampling=params)]
        for params in (answer.SamplingParams(temperature=5, seed=seed) for seed in (1, 1, 2))
    ]
    assert drawn[0] == drawn[1] != drawn[2], "the same seed draws the same tokens, another seed others"


def test_task_3_a_strategy_changes_no_answer(toy: ToyModel) -> None:
    results = answer.batch_generate(toy, TOKENIZER, TEXTS, batch_size=2, max_tokens=5, strategy=answer.ShortestRemaining())
    assert [r.generated_tokens for r in results] == [alone(toy, TOKENIZER.encode(text), 5) for text in TEXTS]


@pytest.mark.parametrize("bad", [{"batch_size": 0}, {"max_seq_len": 0}, {"prefill_step": 0}, {"max_tokens": 0}])
def test_task_3_sizes_below_one_are_refused(toy: ToyModel, bad: dict[str, int]) -> None:
    with pytest.raises(ValueError):
        answer.batch_generate(toy, TOKENIZER, ["a"], **bad)


def test_task_3_the_real_model_says_what_mlx_lm_says(toy: ToyModel, request: pytest.FixtureRequest) -> None:
    assert answer.batch_generate(toy, TOKENIZER, []) == []  # before the real model is loaded, which takes a while
    real: RealModel = request.getfixturevalue("real")
    prompts = [real.chat(text) for text in ("Name three primes.", "Hi!", "Write one sentence about the sea, and one about it.")]
    model = CountingModel(answer.Model(real.loaded.config, real.loaded.weights))
    results = answer.batch_generate(model, real.tokenizer, prompts, 128, 2, 32, max_tokens=12)
    for prompt, result in zip(prompts, results, strict=True):
        expected = real.alone(prompt, 12)
        assert result.generated_tokens == expected, f"mlx-lm's answer is {real.tokenizer.decode(expected)!r}"
        assert result.text == real.tokenizer.decode(expected)
    assert max(model.decode_rows) == 2
