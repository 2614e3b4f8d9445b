"""Week 1 Day 5: the model, against mlx-lm's with the same weights.

The layers are tested on plain functions and on stand-ins, so that a wrong layer does not fail another one's tests.
"""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from oracles import (
    LOGITS,
    assert_close,
    causal64,
    embedded,
    embedded_oracle,
    mlx_lm_model,
    normal,
    rotation,
    to_numpy,
)
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import Weights
from tiny_llm_kit.models.quantized import QuantizedWeight
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

ARCHITECTURES = pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
FORMATS = pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (8, 64)])


def quantized(weight: mx.array, bits: int, group_size: int) -> QuantizedWeight:
    return QuantizedWeight(*mx.quantize(weight, group_size=group_size, bits=bits), group_size, bits)


# Task 1: linear layers


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 5, 6)])
def test_task_1_linear_multiplies_by_the_transposed_weight(shape: tuple[int, ...]) -> None:
    x, weight, bias = normal(*shape, seed=1), normal(4, 6, seed=2), normal(4, seed=3)
    product = to_numpy(x) @ to_numpy(weight).T
    assert_close(answer.linear(x, weight), product, "x Wᵀ: the weight is (N, K)")
    assert_close(answer.linear(x, weight, bias), product + to_numpy(bias), "x Wᵀ + b")


@FORMATS
def test_task_1_linear_takes_quantized_weights(bits: int, group_size: int) -> None:
    x, bias = normal(2, 3, 128, seed=1), normal(24, seed=2)
    weight = quantized(normal(24, 128, seed=3, size=128**-0.5), bits, group_size)
    product = to_numpy(x) @ to_numpy(weight.dequantize(mx.float32)).T
    hint = f"{bits} bits in groups of {group_size}: pass the weight's own bits and group_size, and multiply by Wᵀ"
    assert_close(answer.linear(x, weight), product, hint)
    assert_close(answer.linear(x, weight, bias), product + to_numpy(bias), "a quantized layer may have a bias as well")


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_task_1_fused_layers_give_what_each_gives_alone(with_bias: bool, packed: bool) -> None:
    x, sizes = normal(2, 3, 64, seed=1), [24, 8, 16]
    weights = [normal(n, 64, seed=10 + n, size=64**-0.5) for n in sizes]
    biases = [normal(n, seed=20 + n) if with_bias else None for n in sizes]
    if packed:
        weights = [quantized(weight, 4, 32) for weight in weights]
    got = answer.FusedLinear([answer.Linear(w, b) for w, b in zip(weights, biases, strict=True)])(x)
    assert len(got) == 3, "one result per layer, in their order"
    for y, weight, bias in zip(got, weights, biases, strict=True):
        full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight
        want = to_numpy(x) @ to_numpy(full).T + (0.0 if bias is None else to_numpy(bias))
        assert_close(y, want, "each layer's own columns of the one wide product: cut at the sums of the sizes before")


# Task 2: the embedding


def test_task_2_embedding_looks_tokens_up() -> None:
    table, tokens = normal(11, 8, seed=1), mx.array([[0, 10, 3], [3, 3, 7]])
    got = answer.Embedding(table)(tokens)
    assert_close(got, to_numpy(table)[np.array(tokens)], "token t becomes row t of the table: (B, L) to (B, L, E)")


@FORMATS
def test_task_2_embedding_looks_tokens_up_in_a_quantized_table(bits: int, group_size: int) -> None:
    table, tokens = quantized(normal(11, 128, seed=1), bits, group_size), mx.array([[0, 10, 3], [3, 3, 7]])
    want = to_numpy(table.dequantize(mx.float32))[np.array(tokens)]
    assert_close(answer.Embedding(table)(tokens), want, "take the rows of weight, scales and biases, then dequantize those")


@pytest.mark.parametrize("packed", [False, True])
def test_task_2_the_same_table_scores_tokens(packed: bool) -> None:
    x, table = normal(2, 3, 64, seed=1), normal(11, 64, seed=2)
    table = quantized(table, 8, 32) if packed else table
    full = table.dequantize(mx.float32) if isinstance(table, QuantizedWeight) else table
    want = to_numpy(x) @ to_numpy(full).T
    assert_close(answer.Embedding(table).as_linear(x), want, "logits are the products of x with every row of the table")


# Task 3: self-attention


def attention_layer(config: ModelConfig, weights: Weights) -> Any:
    """Layer 0, its projections as plain functions."""

    def get(name: str) -> Any:
        return weights.get(f"model.layers.0.self_attn.{name}")

    def project(x: mx.array, name: str) -> mx.array:
        bias = get(f"{name}.bias")
        return x @ get(f"{name}.weight").T + (0.0 if bias is None else bias)

    return answer.SelfAttention(
        config,
        lambda x: mx.concatenate([project(x, name) for name in ("q_proj", "k_proj", "v_proj")], axis=-1),
        lambda x: project(x, "o_proj"),
        answer.RoPE(config.head_dim, config.rope_theta),
        answer.RMSNorm(get("q_norm.weight"), config.rms_norm_eps) if config.qk_norm else None,
        answer.RMSNorm(get("k_norm.weight"), config.rms_norm_eps) if config.qk_norm else None,
    )


def layer_case(architecture: str) -> tuple[ModelConfig, Weights, mx.array, tuple[mx.array, mx.array], Any]:
    """Configuration, weights, input (2, 6, E), its rotation from position 0, and mlx-lm's layer 0."""
    config = tiny_config(architecture, num_layers=1)
    weights = random_weights(config, seed=1)
    x = normal(2, 6, config.hidden_size, seed=2)
    turn = rotation(config.head_dim, config.rope_theta, [0], 6)
    return config, weights, x, turn, mlx_lm_model(config, weights).model.layers[0]


class ToyCache(answer.KvCacheBase):
    """Stores by concatenation; `calls` is how often it was used."""

    def __init__(self) -> None:
        self.stored: tuple[mx.array, mx.array] | None = None
        self.calls = 0

    def attend(self, q: mx.array, k: mx.array, v: mx.array, scale: float, mask: Any = None, attention: Any = None) -> mx.array:
        self.calls += 1
        new = (k, v)
        if self.stored is not None:
            new = tuple(mx.concatenate(pair, axis=2) for pair in zip(self.stored, new, strict=True))
        self.stored = new
        if attention is None:
            return answer.grouped_query_attention(q, *self.stored, scale, mask)
        return attention(q, *self.stored, scale, mask, None)


@ARCHITECTURES
def test_task_3_attention_is_mlx_lms(architecture: str) -> None:
    config, weights, x, turn, oracle = layer_case(architecture)
    hint = {
        "llama": "project, split into heads (B, L, H, D), rotate q and k, attend, put the heads side by side, project",
        "qwen2": "Qwen2 has biases on q, k and v: they are part of what `qkv` returns",
        "qwen3": "Qwen3 normalizes q and k over D, before the rotation; its D is not E / H",
    }[architecture]
    want = oracle.self_attn(x, mask="causal")
    assert_close(attention_layer(config, weights)(x, turn), want, hint, LOGITS)


@ARCHITECTURES
def test_task_3_attention_uses_the_mask_it_is_given(architecture: str) -> None:
    config, weights, x, turn, oracle = layer_case(architecture)
    mask = normal(6, 6, seed=3, size=2.0)
    attention = attention_layer(config, weights)
    assert_close(
        attention(x, turn, mask=mask), oracle.self_attn(x, mask=mask), "an array mask takes the place of causal", LOGITS
    )
    assert_close(attention(x, turn, mask=None), oracle.self_attn(x, mask=None), "no mask: every token sees every token", LOGITS)


def test_task_3_attention_turns_by_the_rotation_it_is_given() -> None:
    config, weights, x, turn, _ = layer_case("llama")
    attention = attention_layer(config, weights)
    still = rotation(config.head_dim, config.rope_theta, [0] * 6, 1)
    still = tuple(mx.array(part).reshape(1, 6, 1, -1) for part in still)
    # Without positions and without a mask, attention can't tell an order: reversed tokens give reversed results.
    got, reverse = attention(x, still, mask=None), attention(x[:, ::-1], still, mask=None)
    assert_close(reverse[:, ::-1], got, "the angles come from `rotation`, not from the position in x", LOGITS)
    moved = mx.abs(attention(x, turn, mask=None) - got).max().item()
    assert moved > 0.01, "with angles that differ by position the result should differ: rotate q and k by `rotation`"


def test_task_3_attention_goes_through_the_cache() -> None:
    config, weights, x, _, oracle = layer_case("llama")
    attention, cache = attention_layer(config, weights), ToyCache()
    parts = []
    for start, end in ((0, 3), (3, 5), (5, 6)):
        turn = rotation(config.head_dim, config.rope_theta, [start], end - start)
        parts.append(attention(x[:, start:end], turn, cache))
    assert cache.calls == 3, f"the cache was used {cache.calls} times in 3 calls: it stores, and gives back, keys and values"
    hint = "with a cache, new tokens attend over all stored keys and values: cache.attend(q, k, v, scale, mask), k rotated"
    assert_close(mx.concatenate(parts, axis=1), oracle.self_attn(x, mask="causal"), hint, LOGITS)


# Task 4: the transformer block


def test_task_4_the_block_adds_attention_and_mlp_to_its_input() -> None:
    x = normal(1, 3, 8, seed=1)
    block = answer.TransformerBlock(
        lambda y: y + 10.0, lambda y, rotation, cache=None, mask="causal": 2.0 * y, lambda y: y * 0.5, lambda y: y + 7.0
    )
    middle = to_numpy(x) + 2.0 * (to_numpy(x) + 10.0)
    got = block(x, rotation(4, 100.0, [0], 3))
    hint = "h = x + attention(input_norm(x)), then h + mlp(post_attention_norm(h)): both sums add what was NOT normalized"
    assert_close(got, middle + (middle * 0.5 + 7.0), hint)


def test_task_4_rotation_cache_and_mask_reach_the_attention() -> None:
    given: list[Any] = [rotation(4, 100.0, [0], 3), ToyCache(), mx.zeros((3, 3))]
    seen: list[Any] = []

    def attention(y: mx.array, rotation: Any, cache: Any = None, mask: Any = "causal") -> mx.array:
        seen.extend([rotation, cache, mask])
        return y

    answer.TransformerBlock(lambda y: y, attention, lambda y: y, lambda y: y)(normal(1, 3, 8, seed=1), *given)
    for name, got, want in zip(("rotation", "cache", "mask"), seen, given, strict=True):
        assert got is want, f"the block hands its {name} on to the attention as it is"


@ARCHITECTURES
def test_task_4_the_block_is_mlx_lms(architecture: str) -> None:
    config, weights, x, turn, oracle = layer_case(architecture)
    block = answer.build_block(config, weights, "model.layers.0", answer.RoPE(config.head_dim, config.rope_theta))
    assert_close(block(x, turn), oracle(x, mask="causal"), "norms, attention, MLP and residuals of one whole layer", LOGITS)


# Task 5: the model


def model_case(architecture: str = "llama", **changes: Any) -> tuple[Any, Any, mx.array]:
    """The model, mlx-lm's with the same weights, and tokens (2, 9)."""
    config = tiny_config(architecture, **changes)
    weights = random_weights(config, seed=3)
    tokens = mx.array(np.random.default_rng(4).integers(0, config.vocab_size, (2, 9)))
    return answer.Model(config, weights), mlx_lm_model(config, weights), tokens


@ARCHITECTURES
@pytest.mark.parametrize("tied", [True, False])
def test_task_5_logits_are_mlx_lms(architecture: str, tied: bool) -> None:
    model, oracle, tokens = model_case(architecture, tie_word_embeddings=tied)
    hint = "embedding, rotation from position 0, every block, the final norm, the head"
    assert_close(model(tokens), oracle(tokens), hint, LOGITS)


def test_task_5_one_token_and_another_rope_base() -> None:
    model, oracle, tokens = model_case(rope_theta=500.0)
    assert_close(model(tokens), oracle(tokens), "rope_theta comes from the configuration", LOGITS)
    assert_close(model(tokens[:, :1]), oracle(tokens[:, :1]), "a single token a row", LOGITS)


@pytest.mark.parametrize("keep", [None, 9, 3, 1, 0])
def test_task_5_only_the_last_logits_are_computed(keep: int | None) -> None:
    model, oracle, tokens = model_case()
    want = to_numpy(oracle(tokens))[:, 9 - (9 if keep is None else keep) :]
    hint = f"logits_to_keep={keep} of 9 positions: the last ones (note that x[:, -0:] is everything)"
    assert_close(model(tokens, logits_to_keep=keep), want, hint, LOGITS)


@pytest.mark.parametrize("places", [[8], [0], [2, 7, 3], [5, 5]])
def test_task_5_logits_are_computed_for_the_places_that_are_asked_for(places: list[int]) -> None:
    model, oracle, tokens = model_case()
    hint = f"logits_to_keep=array({places}): these places along L, in this order"
    assert_close(model(tokens, logits_to_keep=mx.array(places)), to_numpy(oracle(tokens))[:, places], hint, LOGITS)


def test_task_5_the_mask_reaches_every_layer() -> None:
    model, oracle, tokens = model_case()
    # Row 0 is 6 tokens after a padding of 3, which they must not see; row 1 is 9 tokens.
    mask = np.stack([causal64(9, 9)] * 2)[:, None]
    mask[0, 0, 3:, :3] = -np.inf
    got = model(tokens, mask=mx.array(mask, dtype=mx.float32))
    assert_close(got[0, 3:], oracle(tokens[:1, 3:])[0], "what the mask hides must not matter, in any layer", LOGITS)
    assert_close(got[1], oracle(tokens)[1], "row 1 is not padded", LOGITS)


@ARCHITECTURES
def test_task_5_with_a_cache_new_tokens_follow_the_stored_ones(architecture: str) -> None:
    model, oracle, tokens = model_case(architecture)
    caches = [ToyCache() for _ in range(model.config.num_layers)]
    parts = [model(tokens[:, start:end], start, caches) for start, end in ((0, 4), (4, 8), (8, 9))]
    assert [cache.calls for cache in caches] == [3] * len(caches), "layer i uses cache[i], once a call"
    hint = "the first of the new tokens is at `offset`, and each layer has its own cache"
    assert_close(mx.concatenate(parts, axis=1), oracle(tokens), hint, LOGITS)


def test_task_5_every_row_has_its_own_offset() -> None:
    model, _, tokens = model_case()

    def continue_at(rows: mx.array, offset: Any) -> mx.array:
        caches = [ToyCache() for _ in range(model.config.num_layers)]
        model(rows[:, :4], 0, caches)
        return model(rows[:, 4:], offset, caches)

    alone = [continue_at(tokens[:1], 4), continue_at(tokens[1:], 30)]
    moved = mx.abs(alone[1] - continue_at(tokens[1:], 4)).max().item()
    assert moved > 0.01, "26 positions further from the stored tokens should change the logits: is `offset` used?"
    got = continue_at(tokens, mx.array([4, 30]))
    assert_close(got, mx.concatenate(alone), "offset (B,): row b starts at offset[b], as if it were alone", LOGITS)


@ARCHITECTURES
def test_task_5_sequences_that_share_a_row(architecture: str) -> None:
    model, oracle, tokens = model_case(architecture)
    sequences = [range(0, 2), range(2, 7), range(7, 8)]  # their places in the row
    positions = [place - sequence.start for sequence in sequences for place in sequence]
    mask = np.full((8, 8), -np.inf)
    for sequence in sequences:
        mask[sequence.start : sequence.stop, sequence.start : sequence.stop] = causal64(len(sequence), len(sequence))
    ends = mx.array([sequence[-1] for sequence in sequences])
    got = model(tokens[:1, :8], mx.array([positions]), mask=mx.array(mask, dtype=mx.float32), logits_to_keep=ends)
    for i, sequence in enumerate(sequences):
        want = oracle(tokens[:1, sequence.start : sequence.stop])[:, -1]
        hint = f"sequence {i} of those in the row: offset (B, L) is each token's own position, and the mask keeps them apart"
        assert_close(got[:, i], want, hint, LOGITS)


def test_task_5_without_a_cache_only_distances_count() -> None:
    model, oracle, tokens = model_case()
    # Angles near 50 lose a digit against those near 5.
    got = model(tokens, mx.array([0, 50]))
    assert_close(got, oracle(tokens), "one offset per row, no cache: all positions of a row move alike", 10 * LOGITS)


@FORMATS
def test_task_5_quantized_weights_give_the_logits_of_the_full_ones(bits: int, group_size: int) -> None:
    config = tiny_config("qwen2")
    full: Weights = {}
    packed: Weights = {}
    for name, weight in random_weights(config, seed=5).items():
        packed[name] = quantized(weight, bits, group_size) if weight.ndim == 2 else weight
        full[name] = packed[name].dequantize(mx.float32) if weight.ndim == 2 else weight
    tokens = mx.array([[72, 101, 108, 108, 111]])
    got = answer.Model(config, packed)(tokens)
    assert_close(got, mlx_lm_model(config, full)(tokens), "packed weights: linear layers, embedding and head", LOGITS)


def test_task_5_the_real_model_gives_mlx_lms_logits() -> None:
    loaded = embedded()
    model = answer.Model(loaded.config, loaded.weights)
    tokens = mx.array([loaded.tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}])])
    # 30 layers of width 576: ten times as many roundings in a row as in the tiny models.
    assert_close(model(tokens), embedded_oracle()(tokens), "SmolLM2 with its real weights", 10 * LOGITS)
