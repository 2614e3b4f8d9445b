"""Tiny models as one GGUF file, in the names and the order of rows of llama.cpp's converter."""

from pathlib import Path
from typing import Any

import mlx.core as mx
from tokenizers import pre_tokenizers

from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import Weights
from tiny_llm_kit.models.tiny_random import random_weights


def save_gguf(parent: Path, config: ModelConfig, weights: Weights | None = None, **changes: Any) -> Path:
    """Write a GGUF file; `changes` replace metadata, and None leaves a key out."""
    file = parent / "tiny.gguf"
    metadata = {key: value for key, value in gguf_metadata(config, **changes).items() if value is not None}
    mx.save_gguf(str(file), gguf_tensors(config, weights or random_weights(config)), metadata)
    return file


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
