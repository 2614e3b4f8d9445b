"""Task 3: batch generation is a continuous batch, with the sizes and the strategy that it is given."""

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from answer import answer
from support import CountingModel, ToyModel, expect_no_error, make_prompt
from tiny_llm_kit.models.tiny_random import ByteTokenizer

TOKENIZER = ByteTokenizer()


def prompts_leaving(max_seq_len: int, *answers: int) -> list[list[int]]:
    """Prompts that leave room for answers of these lengths."""
    return [make_prompt(max_seq_len - tokens, seed) for seed, tokens in enumerate(answers)]


def prompt_calls(model: CountingModel) -> list[int]:
    """The lengths of all calls but decode steps."""
    return [length for length in model.lengths if length > 1]


def test_task_3_requests_share_decode_steps(toy: ToyModel) -> None:
    model = CountingModel(toy)
    expect_no_error(*answer.batch_generate(model, TOKENIZER, [make_prompt(5, seed) for seed in range(4)], 64, 4, max_tokens=20))
    assert max(model.decode_rows) == 4, "four requests and four slots: decode all four in one call of the model"
    assert len(model.decode_rows) <= 25, (
        f"{len(model.decode_rows)} decode calls for four answers of 20 tokens: that is one after another, not a batch"
    )


def test_task_3_a_free_slot_is_refilled_while_a_long_answer_runs(toy: ToyModel) -> None:
    """Long and short answers in turn: in groups of two each short one would hold its slot for as long as the long one."""
    answers = [20, 2] * 4
    model = CountingModel(toy)
    results = answer.batch_generate(model, TOKENIZER, prompts_leaving(30, *answers), 30, batch_size=2)
    expect_no_error(*results)
    assert [len(result.generated_tokens) for result in results] == answers, "without max_tokens each fills max_seq_len"
    steps, rows = len(model.decode_rows), sum(model.decode_rows)
    assert steps <= 52, (
        f"{steps} decode steps; groups of two would take 4 · 19 = 76, and slots that are refilled at once about 45: submit all"
        " prompts to one engine, and let it admit the next whenever a slot is free"
    )
    assert rows == sum(tokens - 1 for tokens in answers), (
        f"{rows} rows were decoded: each answer needs one for every token but its first, and none here ends by surprise"
    )


@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_task_3_batch_size_is_the_number_of_slots(toy: ToyModel, batch_size: int) -> None:
    model = CountingModel(toy)
    prompts = [make_prompt(4, seed) for seed in range(5)]
    expect_no_error(*answer.batch_generate(model, TOKENIZER, prompts, batch_size=batch_size, max_tokens=9))
    assert max(model.decode_rows) == batch_size, "five requests want to run: as many do as there are slots, and no more"


def test_task_3_the_defaults_are_five_slots_and_prompts_in_pieces_of_128(toy: ToyModel) -> None:
    model = CountingModel(toy)
    prompts = [make_prompt(3, seed) for seed in range(6)] + [make_prompt(300)]
    expect_no_error(*answer.batch_generate(model, TOKENIZER, prompts, max_tokens=12))
    assert max(model.decode_rows) == 5, "batch_size is 5 unless the caller says otherwise"
    assert max(model.lengths) == 128, f"the longest call has {max(model.lengths)} tokens: prefill_step is 128 by default"


def test_task_3_the_default_max_seq_len_is_512(toy: ToyModel) -> None:
    (result,) = answer.batch_generate(toy, TOKENIZER, [make_prompt(509)])
    expect_no_error(result)
    assert len(result.generated_tokens) == 3, "509 tokens of prompt leave 3 of 512"


def test_task_3_without_max_tokens_an_answer_fills_what_there_is(toy: ToyModel) -> None:
    (result,) = answer.batch_generate(toy, TOKENIZER, [make_prompt(4)], 300)
    expect_no_error(result)
    assert len(result.generated_tokens) == 296, "4 tokens of prompt leave 296 of 300, and no request asked for fewer"


@pytest.mark.parametrize("prefill_step", [4, 10, 128])
def test_task_3_prompts_are_read_in_chunks_of_prefill_step(toy: ToyModel, prefill_step: int) -> None:
    model = CountingModel(toy)
    lengths = (18, 6, 30, 10)
    prompts = [make_prompt(length) for length in lengths]
    expect_no_error(*answer.batch_generate(model, TOKENIZER, prompts, 64, 2, prefill_step, max_tokens=3))
    longest = max(prompt_calls(model))
    assert longest == min(prefill_step, 30), (
        f"the longest chunk of a prompt has {longest} tokens, and prefill_step is {prefill_step}: hand it on to the engine"
    )
    assert model.prompt_tokens == sum(lengths), "each prompt token is computed once"


def longest_first(running: Sequence[Any]) -> Callable[[Any], float]:
    return lambda request: -len(request.prompt)


@pytest.mark.parametrize(
    ("name", "order"), [("default", [5, 9, 3, 7]), ("ShortestRemaining", [3, 5, 7, 9]), ("longest first", [9, 7, 5, 3])]
)
def test_task_3_the_strategy_says_who_goes_first(toy: ToyModel, name: str, order: list[int]) -> None:
    model = CountingModel(toy)
    if name == "longest first":
        strategy = type("LongestFirst", (answer.Strategy,), {"ranking": lambda self, running: longest_first(running)})()
    else:
        strategy = None if name == "default" else getattr(answer, name)()
    prompts = [make_prompt(length) for length in (5, 9, 3, 7)]
    results = answer.batch_generate(model, TOKENIZER, prompts, 64, 1, max_tokens=3, strategy=strategy)
    expect_no_error(*results)
    assert prompt_calls(model) == order, (
        f"with one slot, prompts of 5, 9, 3 and 7 tokens were served in the order {prompt_calls(model)}, not {order}: all have"
        " to be in the queue before the first runs, and the engine needs the strategy (first come, first served without one)"
    )
    assert [len(result.prompt) for result in results] == [5, 9, 3, 7], "the order of the results is the prompts', all the same"
