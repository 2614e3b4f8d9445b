"""Task 3: prompts that cannot be served, requests that fail, and sizes that make no sense."""

import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from answer import answer
from support import (
    POISON,
    BrokenModelError,
    CountingModel,
    FragileModel,
    ToyModel,
    alone,
    expect_no_error,
    is_poisoned,
    make_prompt,
    refuses,
)
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()
GOOD = [make_prompt(5), make_prompt(12)]


def generate_and_warn(*arguments: Any, **options: Any) -> tuple[list[Any], str]:
    """The results, and the one warning that has to come with them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = answer.batch_generate(*arguments, **options)
    assert len(caught) == 1, (
        f"{len(caught)} warnings: no failure is silent, also if the caller ignores the results, and one warning speaks for all"
    )
    return results, str(caught[0].message)


def assert_good(toy: ToyModel, *results: Any) -> None:
    expect_no_error(*results)
    for result in results:
        assert result.generated_tokens == alone(toy, result.prompt, 6), "the others are served as if it were not there"


@pytest.mark.parametrize(
    "prompt",
    [make_prompt(20), make_prompt(21), make_prompt(100), [], "", [3, 1000, 5], [-1]],
    ids=["fills max_seq_len", "one more", "far too long", "no tokens", "no text", "an unknown token", "a negative token"],
)
def test_task_3_a_prompt_that_cannot_be_served_is_refused_alone(toy: ToyModel, prompt: Any) -> None:
    results, warning = generate_and_warn(toy, TOKENIZER, [GOOD[0], prompt, GOOD[1]], max_seq_len=20, max_tokens=6)
    assert len(results) == 3, "a prompt that is refused has a place among the results, too"
    assert_good(toy, results[0], results[2])
    refused = results[1]
    assert (refused.state, refused.finish_reason, refused.generated_tokens) == ("finished", "error", []), "it ends by its error"
    assert isinstance(refused.error, ValueError), f"its error says why it was refused, and is {refused.error!r}"
    assert "1 of 3" in warning, f"the warning says how many of how many failed: {warning!r}"


def test_task_3_the_warning_counts_and_shows_the_first_error(toy: ToyModel) -> None:
    prompts = [GOOD[0], make_prompt(77), GOOD[1], "", make_prompt(88)]
    results, warning = generate_and_warn(toy, TOKENIZER, prompts, max_seq_len=20, max_tokens=6)
    assert [result.finish_reason for result in results] == ["length", "error", "length", "error", "error"]
    assert "3 of 5" in warning, f"the warning says how many of how many failed: {warning!r}"
    assert str(results[1].error) in warning, f"the warning shows the first error, which is {results[1].error!r}: {warning!r}"
    assert len({str(result.error) for result in results if result.error}) == 3, "each keeps its own error"


def test_task_3_a_request_that_fails_on_its_way_is_reported_too(toy: ToyModel) -> None:
    poisoned = [*make_prompt(4), POISON]
    model = FragileModel(toy, is_poisoned)
    results, warning = generate_and_warn(model, TOKENIZER, [GOOD[0], poisoned, GOOD[1]], max_seq_len=20, max_tokens=6)
    assert_good(toy, results[0], results[2])
    assert isinstance(results[1].error, BrokenModelError), f"the model's error is kept as it is, and was {results[1].error!r}"
    assert "1 of 3" in warning, f"the warning says how many of how many failed: {warning!r}"
    assert str(results[1].error) in warning, f"the warning shows the error: {warning!r}"


def test_task_3_the_warning_shows_the_first_of_the_prompts_whatever_failed_first(toy: ToyModel) -> None:
    prompts = [GOOD[0], [*make_prompt(4), POISON], "", make_prompt(88)]
    results, warning = generate_and_warn(FragileModel(toy, is_poisoned), TOKENIZER, prompts, max_seq_len=20, max_tokens=6)
    assert "3 of 4" in warning, f"two were refused and one failed on its way: {warning!r}"
    assert str(results[1].error) in warning, (
        f"among the prompts, the first that failed ended with {results[1].error!r}, though others had been refused by then; the"
        f" warning shows something else: {warning!r}"
    )


def test_task_3_nobody_is_asked_twice(toy: ToyModel) -> None:
    decode_calls = 0

    def fails(tokens: Any) -> bool:
        nonlocal decode_calls
        decode_calls += tokens.shape[1] == 1
        return tokens.shape[1] == 1 and decode_calls == 1

    model = CountingModel(FragileModel(toy, fails))
    prompts = [make_prompt(5), make_prompt(6), make_prompt(7)]
    results, warning = generate_and_warn(model, TOKENIZER, prompts, batch_size=2, max_tokens=6)
    for failed in results[:2]:
        assert isinstance(failed.error, BrokenModelError), "it was in a decode call that failed, and its result says so"
    assert_good(toy, results[2])
    assert "2 of 3" in warning, f"the warning says how many of how many failed: {warning!r}"
    assert model.prompt_tokens == 5 + 6 + 7, "a request that failed is reported, and not tried again"


def test_task_3_nobody_is_served_when_all_are_refused(toy: ToyModel) -> None:
    model = CountingModel(toy)
    results, warning = generate_and_warn(model, TOKENIZER, ["", make_prompt(30)], max_seq_len=20)
    assert [result.finish_reason for result in results] == ["error", "error"], "both end by their error"
    assert "2 of 2" in warning, f"the warning says how many of how many failed: {warning!r}"
    assert model.calls == [], "no request is served, so the model is not called"


def test_task_3_without_a_failure_there_is_no_warning(toy: ToyModel) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        results = answer.batch_generate(toy, TOKENIZER, GOOD, max_tokens=6)
    assert_good(toy, *results)
    assert not caught, f"no request failed, and yet there is a warning: {[str(one.message) for one in caught]}"


def test_task_3_an_interrupt_goes_through(toy: ToyModel) -> None:
    def interrupt(_: Any) -> bool:
        raise KeyboardInterrupt

    with refuses(KeyboardInterrupt, "a Ctrl-C ends the call: catch what concerns a request, and nothing else"):
        answer.batch_generate(FragileModel(toy, interrupt), TOKENIZER, GOOD, max_tokens=6)


def test_task_3_each_call_has_an_engine_of_its_own(toy: ToyModel) -> None:
    interrupted = False

    def interrupt(_: Any) -> bool:
        if interrupted:
            raise KeyboardInterrupt
        return False

    model = CountingModel(FragileModel(toy, interrupt))
    interrupted = True
    with refuses(KeyboardInterrupt, "a Ctrl-C ends the call"):
        answer.batch_generate(model, TOKENIZER, GOOD, batch_size=1, max_tokens=6)
    interrupted = False
    model.calls.clear()
    (result,) = answer.batch_generate(model, TOKENIZER, [make_prompt(7)], batch_size=1, max_tokens=6)
    assert_good(toy, result)
    assert model.prompt_tokens == 7, (
        f"{model.prompt_tokens} prompt tokens were computed for a prompt of 7: the call before was interrupted, and who"
        " waited in it does not concern this call"
    )
    with ThreadPoolExecutor(1) as thread:
        (result,) = thread.submit(answer.batch_generate, model, TOKENIZER, GOOD[:1], batch_size=1, max_tokens=6).result()
    assert_good(toy, result)


@pytest.mark.parametrize("prompts", [["a", "b"], []], ids=["two prompts", "no prompt"])
@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", ["batch_size", "max_seq_len", "prefill_step", "max_tokens"])
def test_task_3_sizes_below_one_are_refused(toy: ToyModel, name: str, value: int, prompts: list[str]) -> None:
    model = CountingModel(toy)
    with refuses(ValueError, f"{name}={value} makes no sense for any prompt: it is a ValueError for the whole call"):
        answer.batch_generate(model, TOKENIZER, prompts, **{name: value})
    assert model.calls == [], "sizes are looked at before any request is served"
