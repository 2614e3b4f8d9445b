"""Week 2 Day 5: chunked prefill, against one pass of mlx-lm's model."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from answer import answer
from copying import bytes_allocated
from oracles import LOGITS, CountingModel, assert_close, mlx_lm_model
from support import refuses
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

# Task 1: cut the prompt into chunks


@pytest.mark.parametrize(
    ("length", "step", "want"),
    [
        (10, 4, [(0, 4), (4, 8), (8, 10)]),
        (8, 4, [(0, 4), (4, 8)]),
        (9, 4, [(0, 4), (4, 8), (8, 9)]),
        (3, 4, [(0, 3)]),
        (3, 1, [(0, 1), (1, 2), (2, 3)]),
        (1, 1, [(0, 1)]),
        (0, 4, []),
    ],
)
def test_task_1_chunks_cover_the_prompt(length: int, step: int, want: list[tuple[int, int]]) -> None:
    assert list(answer.chunk_bounds(length, step)) == want, (
        f"{length} tokens in steps of {step}: (start, end), end not included"
    )


@given(st.integers(0, 300), st.integers(1, 100))
def test_task_1_chunks_join_and_only_the_last_is_short(length: int, step: int) -> None:
    bounds = list(answer.chunk_bounds(length, step))
    tokens = [i for start, end in bounds for i in range(start, end)]
    assert tokens == list(range(length)), "every token in one chunk, in order"
    sizes = [end - start for start, end in bounds]
    assert all(size == step for size in sizes[:-1]), f"all but the last have {step} tokens: {sizes}"
    assert all(0 < size <= step for size in sizes), f"no chunk is empty or longer than {step}: {sizes}"


@pytest.mark.parametrize("step", [0, -3])
def test_task_1_a_step_below_1_is_refused(step: int) -> None:
    with refuses(ValueError, f"chunks of {step} tokens never come to an end: refuse such a step"):
        list(itertools.islice(answer.chunk_bounds(10, step), 100))


# Task 2 and 3: through the model


def model_case(architecture: str = "llama", **changes: Any) -> tuple[Any, Any]:
    """The model, and mlx-lm's with the same weights."""
    config = tiny_config(architecture, **changes)
    weights = random_weights(config, seed=1)
    return answer.Model(config, weights), mlx_lm_model(config, weights)


def prompt_of(length: int) -> list[int]:
    return np.random.default_rng(length).integers(0, 256, length).tolist()


def new_cache(model: Any) -> list[Any]:
    return [answer.KvCache() for _ in range(model.config.num_layers)]


def last_logits(oracle: Any, prompt: list[int]) -> mx.array:
    return oracle(mx.array([prompt]))[0, -1]


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_task_2_chunks_follow_each_other_in_the_cache(architecture: str) -> None:
    model, oracle = model_case(architecture)
    prompt, cache = prompt_of(11), new_cache(model)
    for start, end in ((0, 4), (4, 9)):
        got = answer.prefill_chunk(model, prompt, start, end, cache)
        assert got is None, f"tokens {start} … {end} of 11 are not the end of the prompt: there is no next token to score"
        assert {layer.offset for layer in cache} == {end}, f"after tokens 0 … {end} every layer's cache holds {end} tokens"
    got = answer.prefill_chunk(model, prompt, 9, 11, cache)
    assert {layer.offset for layer in cache} == {11}, "the last chunk is stored as well: decoding goes on from here"
    hint = "the chunk's first token is at position `start`; the logits are those of the prompt's last token, (V,)"
    assert_close(got, last_logits(oracle, prompt), hint, LOGITS)


@pytest.mark.parametrize("length", [1, 6])
def test_task_2_a_whole_prompt_can_be_one_chunk(length: int) -> None:
    model, oracle = model_case()
    prompt = prompt_of(length)
    got = answer.prefill_chunk(model, prompt, 0, length, new_cache(model))
    assert_close(got, last_logits(oracle, prompt), "the chunk ends where the prompt ends, so logits (V,) are wanted", LOGITS)


def memory_taken_by_a_chunk(model: Any, size: int) -> int:
    """By how many bytes computed arrays grow with one inner chunk of `size` tokens, without a look at a result."""
    mx.eval(answer.prefill_chunk(model, prompt_of(1), 0, 1, new_cache(model)))  # what is computed once for all
    prompt, cache = prompt_of(size + 1), new_cache(model)
    before = active_memory()
    answer.prefill_chunk(model, prompt, 0, size, cache)
    return active_memory() - before


def active_memory() -> int:
    """Bytes that computed arrays take, once the device has done what it was asked to."""
    mx.synchronize()
    return mx.get_active_memory()


def test_task_2_a_chunk_is_computed_without_being_looked_at() -> None:
    config = tiny_config(num_kv_heads=4, head_dim=64)
    stored = 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4 * 256
    taken = memory_taken_by_a_chunk(answer.Model(config, random_weights(config)), 256)
    assert taken > stored / 2, (
        f"the keys and values of 256 tokens take {stored:,} bytes once they are computed, but memory grew by {taken:,}: MLX "
        "computes nothing until it is asked to, so ask for the keys and values of every layer (mx.async_eval) chunk by chunk"
    )


def test_task_2_what_a_chunk_stores_in_any_layer_is_computed() -> None:
    model, _ = model_case(head_dim=64)
    cache = new_cache(model)
    answer.prefill_chunk(model, prompt_of(70), 0, 60, cache)
    for number, layer in enumerate(cache):
        for name, stored in (("keys", layer.keys), ("values", layer.values)):
            asked = bytes_allocated(lambda stored=stored: [stored])  # what is there already needs no memory
            assert asked < stored.nbytes / 2, (
                f"the {name} of layer {number} had not been asked for: launch the keys and values of every layer, or they are"
                " computed with a later chunk"
            )


@contextmanager
def waiting_is_noted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of what was called that makes the host wait for the device."""
    called: list[str] = []

    def noted(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            called.append(name)
            return function(*args, **kwargs)

        return call

    with monkeypatch.context() as patched:
        for owner, names in ((mx, ("eval", "synchronize")), (mx.array, ("item", "tolist"))):
            for name in names:
                patched.setattr(owner, name, noted(name, getattr(owner, name)))
        for name in ("array", "asarray"):  # of NumPy, which reads an array of MLX
            patched.setattr(np, name, noted(f"np.{name}", getattr(np, name)))
        yield called


def test_task_2_nobody_waits_for_a_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = model_case()
    prompt, cache = prompt_of(20), new_cache(model)
    with waiting_is_noted(monkeypatch) as called:
        for start, end in ((0, 8), (8, 16), (16, 20)):
            answer.prefill_chunk(model, prompt, start, end, cache)
    assert not called, (
        f"{called[0]} waits until the device is done. A chunk is launched (mx.async_eval) and not awaited, so that the next one"
        " can be built in the meantime; who reads the logits of the last will wait"
    )


class KeepingModel(CountingModel):
    """Keeps the logits of its last call, so that they take memory if they were computed."""

    def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
        self.kept = super().__call__(*args, **kwargs)
        return self.kept


def test_task_2_an_inner_chunk_computes_no_logits() -> None:
    config = tiny_config(vocab_size=20_000)
    model = KeepingModel(answer.Model(config, random_weights(config)))
    logits = 128 * config.vocab_size * 4  # 10 MB; the keys and values take 0.1 MB
    taken = memory_taken_by_a_chunk(model, 128)
    assert taken < logits / 2, (
        f"memory grew by {taken:,} bytes, and the logits of 128 positions take {logits:,}: nothing looks at those of an inner "
        "chunk, and the vocabulary product is the model's widest, so leave it out (logits_to_keep=0)"
    )


def test_task_2_not_even_one_logit_of_an_inner_chunk_is_computed() -> None:
    config = tiny_config(vocab_size=20_000)
    model = KeepingModel(answer.Model(config, random_weights(config)))
    answer.prefill_chunk(model, prompt_of(9), 0, 8, new_cache(model))
    asked = bytes_allocated(lambda: [model.kept])  # what is there already needs no memory
    assert model.kept.size == 0 or asked >= model.kept.nbytes / 2, (
        f"logits {model.kept.shape} of an inner chunk were computed: launch what it stores, and nothing else"
    )


def test_task_2_at_the_end_only_the_last_logits_are_computed() -> None:
    config = tiny_config(vocab_size=20_000)
    model = answer.Model(config, random_weights(config))
    cache = new_cache(model)
    mx.eval(answer.prefill_chunk(model, prompt_of(1), 0, 1, new_cache(model)))  # what is computed once for all
    taken, all_logits = bytes_allocated(lambda: [answer.prefill_chunk(model, prompt_of(128), 0, 128, cache)]), 128 * 20_000 * 4
    assert taken < all_logits / 2, (
        f"memory grew by {taken:,} bytes, and the logits of 128 positions take {all_logits:,}: only those of the prompt's last"
        " token are wanted (logits_to_keep=1)"
    )


@pytest.mark.parametrize("step", [1, 2, 5, 8, 16, 17, 100])
@pytest.mark.parametrize("length", [1, 2, 16, 17, 40])
def test_task_3_chunked_logits_are_those_of_one_pass(length: int, step: int) -> None:
    model, oracle = model_case()
    prompt, cache = prompt_of(length), new_cache(model)
    got = answer.prefill(model, prompt, cache, step)
    hint = f"{length} tokens in chunks of {step}: the logits (V,) after the last one, as from a single pass"
    assert_close(got, last_logits(oracle, prompt), hint, LOGITS)
    assert {layer.offset for layer in cache} == {length}, f"the cache of every layer should hold the {length} tokens"


@pytest.mark.parametrize("architecture", ["qwen2", "qwen3"])
def test_task_3_other_architectures(architecture: str) -> None:
    model, oracle = model_case(architecture)
    prompt = prompt_of(30)
    got = answer.prefill(model, prompt, new_cache(model), 7)
    assert_close(got, last_logits(oracle, prompt), f"{architecture}: 30 tokens in chunks of 7", LOGITS)


@pytest.mark.parametrize(("length", "step"), [(20, 6), (12, 4), (3, 10), (5, 1)])
def test_task_3_no_call_takes_more_than_a_step(length: int, step: int) -> None:
    model = CountingModel(model_case()[0])
    answer.prefill(model, prompt_of(length), new_cache(model), step)
    assert max(model.lengths) <= step, f"a chunk bounds the memory of a call: {max(model.lengths)} tokens with step {step}"
    assert sum(model.lengths) == length, f"{length} tokens, each once, went through the model as {model.lengths}"


def test_task_3_without_a_step_a_long_prompt_is_chunked_too() -> None:
    model = CountingModel(model_case()[0])
    answer.prefill(model, prompt_of(300), new_cache(model))
    assert max(model.lengths) <= 128, f"the default step is 128 tokens, but a call had {max(model.lengths)}"


@pytest.mark.parametrize("step", [1, 4, 50])
def test_task_3_decoding_goes_on_from_the_cache(step: int) -> None:
    model, oracle = model_case()
    prompt, cache = prompt_of(13), new_cache(model)
    known = list(prompt)
    logits = answer.prefill(model, prompt, cache, step)
    for _ in range(6):
        assert_close(logits, last_logits(oracle, known), f"after {len(known)} tokens, 13 of them in chunks of {step}", LOGITS)
        known.append(int(mx.argmax(logits).item()))
        logits = model(mx.array([known[-1:]]), len(known) - 1, cache)[0, -1]


@pytest.mark.parametrize(("length", "step"), [(0, 4), (5, 0), (5, -1)])
def test_task_3_an_empty_prompt_or_step_is_refused(length: int, step: int) -> None:
    model, _ = model_case()
    cache = new_cache(model)
    with refuses(ValueError, f"{length} tokens in chunks of {step}: an empty prompt and a step below 1 are refused"):
        answer.prefill(model, prompt_of(length), cache, step)
    assert {layer.offset for layer in cache} == {0}, "what is refused leaves the cache as it was"
