"""Week 2 Day 1: the KV cache, against plain concatenation; decoding with it, against mlx-lm."""

import itertools
from collections.abc import Sequence
from typing import Any

import mlx.core as mx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from copying import bytes_copied
from oracles import (
    HALF,
    LOGITS,
    CountingModel,
    CountUp,
    assert_close,
    attention64,
    causal64,
    embedded,
    embedded_oracle,
    mlx_lm_greedy,
    mlx_lm_model,
    normal,
)
from support import refuses
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

SHAPE = (2, 3, 0, 4)  # B, KV, no token yet, D


def keys_and_values(length: int, seed: int, dtype: mx.Dtype = mx.float32) -> tuple[mx.array, mx.array]:
    batch, heads, _, dim = SHAPE
    return tuple(normal(batch, heads, length, dim, seed=2 * seed + i, dtype=dtype) for i in range(2))


def feed(cache: Any, lengths: Sequence[int]) -> None:
    """Append pieces of these lengths and hold what comes back against their concatenation."""
    history = (mx.zeros(SHAPE), mx.zeros(SHAPE))
    for seed, length in enumerate(lengths):
        new = keys_and_values(length, seed)
        history = tuple(mx.concatenate(pair, axis=2) for pair in zip(history, new, strict=True))
        got = cache.update_and_fetch(*new)
        pieces = list(lengths[: seed + 1])
        told = f"pieces of {pieces} tokens" if seed < 10 else f"{seed + 1} pieces of {sum(pieces)} tokens together"
        check(cache, got, history, f"after {told}")


def check(cache: Any, got: Any, history: tuple[mx.array, ...], when: str) -> None:
    total = history[0].shape[2]
    for name, fetched, want in zip(("keys", "values"), got, history, strict=False):
        assert_close(fetched, want, f"{when}: {name} are all that was stored, in order, along axis 2", 0.0)
    assert got[2] == total, f"{when}: S is the number of stored tokens, {total}, not {got[2]}"
    assert cache.offset == total, f"{when}: offset should be {total}, not {cache.offset}"


# Task 1: a cache that grows


@pytest.mark.parametrize("lengths", [[1], [5], [3, 1, 1, 4], [1] * 10], ids=str)
def test_task_1_the_cache_is_a_concatenation(lengths: list[int]) -> None:
    feed(answer.KvCache(), lengths)


@pytest.mark.parametrize(
    "lengths", [[1] * 300, [10, 300, 1, 1], [64, 64, 64], [63, 2, 130, 1], [700, 1]], ids=lambda x: str(x[:4])
)
def test_task_1_the_cache_grows_without_losing_anything(lengths: list[int]) -> None:
    feed(answer.KvCache(), lengths)


@settings(max_examples=20)
@given(st.lists(st.integers(1, 90), min_size=1, max_size=8))
def test_task_1_pieces_of_any_length_fit(lengths: list[int]) -> None:
    feed(answer.KvCache(), lengths)


@pytest.mark.parametrize("mask", [None, "causal", mx.zeros((2, 2))], ids=["None", "causal", "array"])
def test_task_1_the_mask_is_handed_back_as_it_came(mask: Any) -> None:
    got = answer.KvCache().update_and_fetch(*keys_and_values(2, 1), mask=mask)
    assert len(got) == 4, "keys, values, S, mask"
    assert got[3] is mask, "this cache knows nothing about masks: hand it back"


@pytest.mark.parametrize("dtype", HALF)
def test_task_1_half_precision_stays_half(dtype: mx.Dtype) -> None:
    cache = answer.KvCache()
    for seed in range(3):
        keys, values, *_ = cache.update_and_fetch(*keys_and_values(50, seed, dtype))
        assert (keys.dtype, values.dtype) == (dtype, dtype), f"keys and values of {dtype} are stored as they are"


def test_task_1_what_was_fetched_before_does_not_change() -> None:
    cache = answer.KvCache()
    first = keys_and_values(5, 1)
    fetched = cache.update_and_fetch(*first)
    for seed in range(2, 6):
        mx.eval(cache.update_and_fetch(*keys_and_values(1, seed))[:2])
    hint = "arrays that were handed out belong to the reader: storing more must not overwrite them"
    assert_close(fetched[0], first[0], hint, 0.0)
    assert_close(fetched[1], first[1], hint, 0.0)


def test_task_1_a_token_costs_a_write_of_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    cache, steps = answer.KvCache(), 1000
    keys, values = (normal(1, 2, steps, 16, seed=seed) for seed in (1, 2))
    mx.eval(keys, values)
    token = (keys.nbytes + values.nbytes) / steps
    copied = bytes_copied(
        lambda i: cache.update_and_fetch(keys[:, :, i : i + 1], values[:, :, i : i + 1])[:2], steps, monkeypatch
    )
    # A store that doubles asks for room for some 3,000 tokens; one that grows by 16 at a time, for 32,000.
    assert copied / token < 50_000, (
        f"{steps:,} tokens, one at a time, copied {copied / token:,.0f} tokens; copying the history for each of them comes"
        f" to {steps * (steps + 1) // 2:,}. Keep room to spare, grow it seldom, and write a token where it belongs"
    )


def test_task_1_two_caches_share_nothing() -> None:
    one, other = answer.KvCache(), answer.KvCache()
    one.update_and_fetch(*keys_and_values(3, 1))
    mine = keys_and_values(2, 2)
    check(other, other.update_and_fetch(*mine), mine, "in a cache of its own")


def test_task_1_attention_over_the_cache_is_attention_over_everything() -> None:
    q, k, v = normal(1, 4, 70, 8, seed=1), normal(1, 2, 70, 8, seed=2), normal(1, 2, 70, 8, seed=3)
    cache, outs = answer.KvCache(), []
    for start, end in ((0, 60), (60, 66), *((i, i + 1) for i in range(66, 70))):
        q_new, k_new, v_new = (x[:, :, start:end] for x in (q, k, v))
        outs.append(cache.attend(q_new, k_new, v_new, scale=0.5, mask="causal"))
    hint = "60, then 6, then single tokens: each attends over all before it and not over unused room"
    assert_close(mx.concatenate(outs, axis=2), attention64(q, k, v, 0.5, causal64(70, 70)), hint)


# Task 2: rewind


def empty_cache() -> Any:
    cache = answer.KvCache()
    cache.rewind(0)  # nothing is stored, and nothing forgotten
    return cache


@pytest.mark.parametrize("count", [0, 1, 3, 7])
def test_task_2_after_a_rewind_new_tokens_take_the_place_of_the_old(count: int) -> None:
    cache, old, new = empty_cache(), keys_and_values(7, 1), keys_and_values(2, 2)
    cache.update_and_fetch(*old)
    cache.rewind(count)
    assert cache.offset == 7 - count, f"7 tokens less {count}: offset should be {7 - count}, not {cache.offset}"
    want = tuple(mx.concatenate([before[:, :, : 7 - count], after], axis=2) for before, after in zip(old, new, strict=True))
    check(cache, cache.update_and_fetch(*new), want, f"after a rewind by {count} of 7 and 2 new tokens")


@pytest.mark.parametrize(("stored", "count"), [(0, 1), (3, 4), (3, -1), (100, 101)])
def test_task_2_only_what_is_stored_can_be_forgotten(stored: int, count: int) -> None:
    cache = empty_cache()
    if stored:
        cache.update_and_fetch(*keys_and_values(stored, 1))
    with refuses(ValueError, f"{stored} tokens are stored: {count} can't be forgotten", named=str(count)):
        cache.rewind(count)
    assert cache.offset == stored, "a refused rewind changes nothing"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 60)), min_size=1, max_size=8))
def test_task_2_any_mixture_of_appending_and_rewinding(steps: list[tuple[int, int]]) -> None:
    cache, history = empty_cache(), (mx.zeros(SHAPE), mx.zeros(SHAPE))
    for seed, (length, back) in enumerate(steps):
        new = keys_and_values(length, seed)
        history = tuple(mx.concatenate(pair, axis=2) for pair in zip(history, new, strict=True))
        check(cache, cache.update_and_fetch(*new), history, f"{length} tokens appended")
        back = min(back, cache.offset)
        cache.rewind(back)
        history = tuple(x[:, :, : x.shape[2] - back] for x in history)


# Task 3: decode with a cache


def model_case(architecture: str = "llama", seed: int = 0) -> tuple[Any, Any]:
    """The model, and mlx-lm's with the same weights."""
    config = tiny_config(architecture)
    weights = random_weights(config, seed)
    return answer.Model(config, weights), mlx_lm_model(config, weights)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_3_the_cache_changes_no_token(architecture: str) -> None:
    model, oracle = model_case(architecture)
    prompt = [72, 101, 108, 108, 111]
    got = list(answer.generate_tokens_with_cache(model, prompt, 20))
    assert got == mlx_lm_greedy(oracle, prompt, 20), (
        "wrong from token 2 on: is `offset` the number of tokens before the new one?"
    )
    without = list(answer.generate_tokens(model, prompt, 20))
    assert got == without, "the same tokens as generate_tokens gives without a cache"


def test_task_3_a_long_answer_outgrows_the_first_room() -> None:
    model, oracle = model_case(seed=1)
    got = list(answer.generate_tokens_with_cache(model, [1, 2, 3], 150))
    assert got == mlx_lm_greedy(oracle, [1, 2, 3], 150), "150 tokens, one at a time"


def test_task_3_each_token_goes_through_the_model_once() -> None:
    model = CountingModel(model_case()[0])
    count = len(list(answer.generate_tokens_with_cache(model, [1, 2, 3, 4], 10)))
    assert sum(model.lengths) <= 4 + count - 1, (
        f"4 tokens of prompt and {count - 1} to continue from, but {sum(model.lengths)} went through the model: "
        f"after the prompt, one new token a step. Calls: {model.lengths}"
    )
    assert len(model.lengths) <= count, "one run of the model a token"


@pytest.mark.parametrize(
    ("eos", "count", "want"), [({8}, 9, [6, 7]), ({6}, 9, []), ({5}, 3, [6, 7, 8]), ((), 0, []), ((), 1, [6])]
)
def test_task_3_it_ends_like_generate_tokens(eos: Any, count: int, want: list[int]) -> None:
    model = CountingModel(CountUp(tiny_config()))
    got = list(answer.generate_tokens_with_cache(model, [4, 5], count, eos))
    assert got == want, f"end tokens {eos}, max_tokens {count}: the end token is not yielded"


def test_task_3_tokens_come_as_soon_as_they_are_known() -> None:
    model = CountingModel(CountUp(tiny_config()))
    tokens = answer.generate_tokens_with_cache(model, [5], 100)
    for asked, want in enumerate([6, 7, 8], start=1):
        got = next(tokens)
        assert got == want, f"token {asked} of the answer is {want}, not {got}"
        assert len(model.lengths) <= asked, "yield a token before the next one is computed"


def test_task_3_an_empty_prompt_is_refused() -> None:
    with refuses(ValueError, "there is no token to continue: refuse an empty prompt before the model runs"):
        list(answer.generate_tokens_with_cache(CountUp(tiny_config()), [], 3))


def test_task_3_the_sampler_chooses() -> None:
    model, oracle = model_case(seed=2)
    before, given = [], []

    def second_best(logits: mx.array, tokens: Sequence[int]) -> mx.array:
        before.append(list(tokens))
        given.append(logits)
        return mx.argsort(-logits)[1]

    got = list(answer.generate_tokens_with_cache(model, [9, 8], 4, sampler=second_best))
    assert before == [[9, 8, *got[:i]] for i in range(4)], "the sampler is given all tokens before the one that is wanted"
    for i, token in enumerate(got):
        logits = oracle(mx.array([[9, 8, *got[:i]]]))[0, -1]
        hint = "the sampler is given the logits (V,) of the last position, as the model gives them: no probabilities"
        assert_close(given[i], logits, hint, LOGITS)
        assert token == mx.argsort(-logits)[1].item(), "the sampler decides which token comes next"


def test_task_3_a_conversation_goes_on_from_the_cache() -> None:
    model, oracle = model_case(seed=3)
    cache = [answer.KvCache() for _ in range(model.config.num_layers)]
    first, second = [72, 101, 108, 108, 111], [63, 32, 89]
    known = first + list(answer.generate_tokens_with_cache(model, first, 6, cache=cache)) + second
    stored = cache[0].offset
    assert 0 < stored <= len(first) + 6, f"the cache that was given should hold the conversation, but holds {stored} tokens"
    counting = CountingModel(model)
    got = list(answer.generate_tokens_with_cache(counting, known[stored:], 6, cache=cache))
    assert counting.lengths[0] == len(known) - stored, "what the cache holds must not go through the model again"
    assert got == mlx_lm_greedy(oracle, known, 6), "the prompt continues at the position after what the cache holds"


def test_task_3_after_a_rewind_the_same_answer_comes_again() -> None:
    model, _ = model_case(seed=4)
    cache = [answer.KvCache() for _ in range(model.config.num_layers)]
    once = list(answer.generate_tokens_with_cache(model, [1, 2, 3], 8, cache=cache))
    for layer in cache:
        layer.rewind(layer.offset - 2)
    again = list(answer.generate_tokens_with_cache(model, [3], 8, cache=cache))
    assert again == once, "rewound to the prompt's first two tokens, the third gives the same answer"


def test_task_3_the_real_model_answers_as_in_mlx_lm() -> None:
    loaded = embedded()
    prompt = loaded.tokenizer.apply_chat_template([{"role": "user", "content": "Name three colours of the rainbow."}])
    model = answer.Model(loaded.config, loaded.weights)
    got = list(answer.generate_tokens_with_cache(model, prompt, 12, loaded.tokenizer.eos_token_ids))
    end_tokens = loaded.tokenizer.eos_token_ids
    want = list(itertools.takewhile(lambda token: token not in end_tokens, mlx_lm_greedy(embedded_oracle(), prompt, 12)))
    assert got == want, f"got {loaded.tokenizer.decode(got)!r}, mlx-lm says {loaded.tokenizer.decode(want)!r}"
