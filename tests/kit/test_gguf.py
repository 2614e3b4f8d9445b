"""GGUF files: a tiny model written as llama.cpp's converter writes it comes back as it was, or is refused by name."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest
from tokenizers import pre_tokenizers

from kit.tiny_models import TOKENS, TOLERANCE, logits, mlx_lm_model
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import Weights, load
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


def gguf_tensors(config: ModelConfig, weights: Weights) -> dict[str, mx.array]:
    """Names and row order of llama.cpp's converter: each head's rows 0, 1, 2, … become 0, d/2, 1, d/2 + 1, …"""
    names = {
        "model.layers.": "blk.",
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "lm_head": "output",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "input_layernorm": "attn_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    d = config.head_dim
    tensors = {}
    for name, weight in weights.items():
        if "q_proj" in name or "k_proj" in name:
            row_order = [head * d + j + half for head in range(len(weight) // d) for j in range(d // 2) for half in (0, d // 2)]
            weight = weight[mx.array(row_order)]
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        tensors[name] = weight
    return tensors


def gguf_metadata(config: ModelConfig, **changes: Any) -> dict[str, Any]:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    ordinary, control = [*alphabet, "He"], ["<|im_end|>", "<|one|>", "<|two|>"]
    assert len(ordinary) + len(control) == config.vocab_size
    return {
        "general.architecture": "llama",
        "llama.embedding_length": mx.array(config.hidden_size, mx.uint32),
        "llama.block_count": mx.array(config.num_layers, mx.uint32),
        "llama.attention.head_count": mx.array(config.num_heads, mx.uint32),
        "llama.attention.head_count_kv": mx.array(config.num_kv_heads, mx.uint32),
        "llama.feed_forward_length": mx.array(config.intermediate_size, mx.uint32),
        "llama.context_length": mx.array(config.max_position_embeddings, mx.uint32),
        "llama.attention.layer_norm_rms_epsilon": mx.array(config.rms_norm_eps, mx.float32),
        "llama.rope.freq_base": mx.array(config.rope_theta, mx.float32),
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": ordinary + control,
        "tokenizer.ggml.token_type": mx.array([1] * len(ordinary) + [3] * len(control), mx.int32),
        "tokenizer.ggml.merges": ["H e"],
        **changes,
    }


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_gives_back_what_was_converted(tmp_path: Path, tied: bool) -> None:
    config = tiny_config(tie_word_embeddings=tied)
    weights = random_weights(config)
    file = tmp_path / "tiny.gguf"
    mx.save_gguf(str(file), gguf_tensors(config, weights), gguf_metadata(config))
    loaded = load(file)
    assert loaded.config == config
    assert loaded.weights.keys() == weights.keys()
    for name, weight in weights.items():
        assert mx.array_equal(loaded.weights[name], weight), f"{name} differs from the weight before conversion"


def test_gguf_rows_turn_in_halves_as_its_own_turn_in_pairs(tmp_path: Path) -> None:
    config = tiny_config()
    weights = random_weights(config)
    in_pairs = {**weights}
    for name, weight in gguf_tensors(config, weights).items():
        if "attn_q" in name or "attn_k" in name:
            in_pairs[name.replace("blk", "model.layers").replace("attn_", "self_attn.").replace(".weight", "_proj.weight")] = (
                weight
            )
    file = tmp_path / "tiny.gguf"
    mx.save_gguf(str(file), gguf_tensors(config, weights), gguf_metadata(config))
    expected = mlx_lm_model(config, in_pairs, rope_traditional=True)(TOKENS)
    assert mx.allclose(logits(load(file)), expected, **TOLERANCE), (
        "rows as GGUF has them, rotated as neighbours, and rows as the kit has them, rotated as halves, are the same model"
    )


def test_gguf_tokenizer_is_read_from_the_metadata(tmp_path: Path) -> None:
    config = tiny_config()
    file = tmp_path / "tiny.gguf"
    mx.save_gguf(str(file), gguf_tensors(config, random_weights(config)), gguf_metadata(config))
    tokenizer = load(file).tokenizer
    tokens = tokenizer.encode("He said 12<|im_end|>")
    assert tokens[0] == 256, "the file's only merge makes one token of 'He'"
    assert tokens[-1] == 257, "<|im_end|> is a control token"
    assert tokenizer.eos_token_ids == {257}
    assert tokenizer.decode(tokens) == "He said 12<|im_end|>"
    with pytest.raises(ValueError, match="no chat template"):
        tokenizer.apply_chat_template([{"role": "user", "content": "hello"}])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"general.architecture": "gemma3"}, "'gemma3' is not supported.*llama"),
        ({"llama.rope.scaling.type": "yarn"}, "rope.scaling.type 'yarn' is not supported yet"),
        ({"tokenizer.ggml.pre": "llama-bpe"}, "tokenizer.ggml.pre 'llama-bpe' is not supported"),
        ({"tokenizer.ggml.model": "llama"}, "tokenizer.ggml.model 'llama' is not supported"),
        ({"llama.feed_forward_length": mx.array(96, mx.uint32)}, r"mlp.gate_proj.weight.*expected \(96, 64\), got \(128, 64\)"),
        ({"llama.attention.head_count_kv": mx.array(3, mx.uint32)}, r"num_heads \(4\).*num_kv_heads \(3\)"),
    ],
)
def test_gguf_that_is_not_supported_is_named(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    config = tiny_config()
    file = tmp_path / "tiny.gguf"
    mx.save_gguf(str(file), gguf_tensors(config, random_weights(config)), gguf_metadata(config, **changes))
    with pytest.raises(ValueError, match=message):
        load(file)


def test_gguf_with_missing_metadata_or_tensors_is_named(tmp_path: Path) -> None:
    config = tiny_config()
    file = tmp_path / "tiny.gguf"
    tensors, metadata = gguf_tensors(config, random_weights(config)), gguf_metadata(config)
    for key in ("llama.block_count", "tokenizer.ggml.merges"):
        mx.save_gguf(str(file), tensors, {k: v for k, v in metadata.items() if k != key})
        with pytest.raises(ValueError, match=key):
            load(file)
    mx.save_gguf(str(file), {k: v for k, v in tensors.items() if k != "blk.1.attn_k.weight"}, metadata)
    with pytest.raises(ValueError, match=r"missing tensor model.layers.1.self_attn.k_proj.weight"):
        load(file)
    mx.save_gguf(str(file), {**tensors, "rope_freqs.weight": mx.ones(8)}, metadata)
    with pytest.raises(ValueError, match=r"unexpected tensor rope_freqs.weight"):
        load(file)


def test_gguf_that_is_no_gguf_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.gguf"
    file.write_bytes(b"not a model")
    with pytest.raises(ValueError, match=r"broken.gguf cannot be read"):
        load(file)
