"""Tiny random models: right for their architecture, the same every time, and lively enough to show a mistake.

The oracle that runs them is mlx-lm.
"""

import math
from collections import Counter
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx_lm.models.cache import make_prompt_cache

from kit.tiny_models import mlx_lm_model
from tiny_llm_kit.models.config import SUPPORTED_ARCHITECTURES
from tiny_llm_kit.models.load import check_weights
from tiny_llm_kit.models.tiny_random import ByteTokenizer, random_weights, tiny_config

PROMPTS = ("hello", "The quick brown fox", "a", "0123456789")
SEEDS = (0, 1, 2, 3)

architectures = pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)


@dataclass
class Generated:
    tokens: list[int]
    leads: list[float]  # of the best logit over the second best


def generate(model: nn.Module, prompt: str, length: int = 64) -> Generated:
    cache = make_prompt_cache(model)
    generated = Generated([], [])
    tokens = ByteTokenizer().encode(prompt)
    for _ in range(length):
        logits = np.array(model(mx.array([tokens]), cache=cache)[0, -1])
        second, best = np.sort(logits)[-2:]
        tokens = [int(logits.argmax())]
        generated.tokens += tokens
        generated.leads.append(float(best - second))
    return generated


def bits(tokens: list[int]) -> float:
    """Entropy of the tokens' frequencies: 0 when all are the same, 6 when 64 are all different."""
    return -sum(n / len(tokens) * math.log2(n / len(tokens)) for n in Counter(tokens).values())


@architectures
def test_configuration_shows_what_its_architecture_adds(architecture: str) -> None:
    config = tiny_config(architecture)
    assert (config.qkv_bias, config.qk_norm) == (architecture == "qwen2", architecture == "qwen3")
    assert config.tie_word_embeddings == (architecture == "llama")
    assert (config.num_heads * config.head_dim == config.hidden_size) == (architecture != "qwen3"), (
        "one architecture should catch code that takes hidden_size / num_heads for head_dim"
    )
    assert config.vocab_size >= ByteTokenizer.vocab_size


def test_changes_replace_fields() -> None:
    config = tiny_config("qwen3", num_layers=1, tie_word_embeddings=True)
    assert (config.num_layers, config.tie_word_embeddings) == (1, True)
    with pytest.raises(ValueError, match="num_kv_heads"):
        tiny_config(num_kv_heads=3)
    with pytest.raises(ValueError, match=r"'gpt2' is not supported.*llama, qwen2, qwen3"):
        tiny_config("gpt2")


@architectures
def test_weights_are_those_of_the_configuration(architecture: str) -> None:
    for config in (tiny_config(architecture), tiny_config(architecture, num_layers=1, tie_word_embeddings=True)):
        weights = random_weights(config)
        check_weights(config, weights)
        assert {weight.dtype for weight in weights.values()} == {mx.float32}
        mlx_lm_model(config, weights)  # raises if mlx-lm misses a parameter or knows none of that name


def test_seed_decides_and_nothing_else() -> None:
    config = tiny_config()
    mx.random.seed(0)
    expected = mx.random.uniform(shape=(4,))
    mx.random.seed(0)
    weights, again, other = random_weights(config, 7), random_weights(config, 7), random_weights(config, 8)
    assert mx.array_equal(mx.random.uniform(shape=(4,)), expected), "global random state should be left alone"
    assert all(mx.array_equal(weights[name], again[name]) for name in weights)
    assert not any(mx.array_equal(weights[name], other[name]) for name in weights)


@architectures
def test_greedy_text_varies(architecture: str) -> None:
    config = tiny_config(architecture)
    leads: list[float] = []
    for seed in SEEDS:
        model = mlx_lm_model(config, random_weights(config, seed))
        outputs = [generate(model, prompt) for prompt in PROMPTS]
        for output in outputs:
            assert bits(output.tokens) > 2, f"seed {seed} repeats itself: {output.tokens}"
            leads += output.leads
        assert len({tuple(output.tokens) for output in outputs}) == len(PROMPTS), "the prompt should show in the output"
    ties = sum(lead < 1e-3 for lead in leads) / len(leads)
    assert ties < 0.01, f"{ties:.1%} of the choices hang on a lead that rounding can turn"


@architectures
def test_the_first_token_shows_in_the_last_logits(architecture: str) -> None:
    config = tiny_config(architecture)
    model = mlx_lm_model(config, random_weights(config))
    tokens = ByteTokenizer().encode("a prompt of some length, long enough to be cut into chunks")
    changed = [tokens[0] + 1, *tokens[1:]]
    difference = mx.abs(model(mx.array([tokens])) - model(mx.array([changed])))[0, -1].max()
    assert difference > 0.1, "a mistake anywhere in a prompt's cache should be seen, not drown in rounding (about 1e-4)"
