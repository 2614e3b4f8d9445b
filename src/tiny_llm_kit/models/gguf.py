"""A Llama model in one GGUF file: weights, sizes and (untouched) the tokenizer's metadata.

MLX reads the format, and already turns Q4_0, Q4_1 and Q8_0 blocks into its own affine groups of 32. What is left is to give
the tensors their Hugging Face names back, and to undo a reordering of rows.
Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np

from tiny_llm_kit.models.checkpoint import check_weights
from tiny_llm_kit.models.config import ModelConfig, check_number, check_whole
from tiny_llm_kit.models.files import check_file
from tiny_llm_kit.models.gguf_header import check_gguf_header
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights

_GROUP_SIZE = 32  # a GGUF block of every type that MLX keeps packed

_NAMES = {
    "token_embd": "embed_tokens",
    "output_norm": "norm",
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def read_gguf(file: Path) -> tuple[ModelConfig, Weights, dict[str, Any]]:
    """Configuration, weights (lazy arrays) and metadata of a GGUF file. Raises ValueError that names what is wrong."""
    tensors, metadata = _read(file)
    try:
        config = _config(metadata, tied="output.weight" not in tensors)
        names = [name for name in tensors if name.endswith((".weight", ".bias"))]
        weights = {_hugging_face_name(name): _assemble(name, tensors) for name in names}
        check_weights(config, weights)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    for name, weight in weights.items():
        if "q_proj." in name:
            weights[name] = _map_rows(weight, config.num_heads)
        elif "k_proj." in name:
            weights[name] = _map_rows(weight, config.num_kv_heads)
    return config, weights, metadata


def _read(file: Path) -> tuple[dict[str, mx.array], dict[str, Any]]:
    """Tensors and metadata as MLX reads them, once it is known that they are all there."""
    check_file(file)
    check_gguf_header(file)
    if not os.access(file, os.W_OK):  # MLX opens it for both, though it writes nothing
        raise ValueError(f"{file} cannot be opened by MLX, which needs leave to write: change its permissions, or copy it")
    try:
        contents = mx.load(str(file), format="gguf", return_metadata=True)
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{file} cannot be read as GGUF: {error}") from error
    tensors, metadata = cast(tuple[dict[str, mx.array], dict[str, Any]], contents)
    return tensors, {key: _plain(value) for key, value in metadata.items()}


def _plain(value: Any) -> Any:
    """Metadata as Python values; a float32 as the decimal that it stands for (1e-05, not 9.99999974e-06)."""
    if not isinstance(value, mx.array):
        return value
    return float(str(np.array(value))) if value.dtype == mx.float32 and value.ndim == 0 else value.tolist()


def _config(metadata: Mapping[str, Any], tied: bool) -> ModelConfig:
    if (architecture := metadata.get("general.architecture")) != "llama":
        raise ValueError(f"a GGUF file of architecture {architecture!r} is not supported: choose a llama model")
    if (scaling := metadata.get("llama.rope.scaling.type", "none")) != "none":
        raise ValueError(f"llama.rope.scaling.type {scaling!r} is not supported yet: the course implements plain RoPE only")

    def read(key: str, default: Any = None) -> Any:
        value = metadata.get(f"llama.{key}", default)
        if value is None:
            raise ValueError(f"the GGUF file has no llama.{key}")
        return value

    def whole(key: str, default: int | None = None) -> int:
        return check_whole(f"llama.{key}", read(key, default))

    def number(key: str, default: float | None = None) -> float:
        return check_number(f"llama.{key}", read(key, default))

    tokens = metadata.get("tokenizer.ggml.tokens")
    hidden_size, num_heads = whole("embedding_length"), whole("attention.head_count")
    return ModelConfig(
        architecture="llama",
        hidden_size=hidden_size,
        num_layers=whole("block_count"),
        num_heads=num_heads,
        num_kv_heads=whole("attention.head_count_kv", num_heads),
        head_dim=whole("attention.key_length", hidden_size // num_heads),
        intermediate_size=whole("feed_forward_length"),
        vocab_size=check_whole("the number of tokenizer.ggml.tokens", len(tokens) if isinstance(tokens, list) else None),
        rms_norm_eps=number("attention.layer_norm_rms_epsilon"),
        rope_theta=number("rope.freq_base", 10000.0),
        max_position_embeddings=whole("context_length"),
        qkv_bias=False,
        qk_norm=False,
        tie_word_embeddings=tied,
    )


def _hugging_face_name(name: str) -> str:
    """blk.3.attn_q.weight -> model.layers.3.self_attn.q_proj.weight. An unknown name passes, for check_weights to report."""
    match name.split("."):
        case ["output", kind]:
            return f"lm_head.{kind}"
        case ["blk", layer, module, kind] if module in _NAMES:
            return f"model.layers.{layer}.{_NAMES[module]}.{kind}"
        case [module, kind] if module in _NAMES:
            return f"model.{_NAMES[module]}.{kind}"
    return name


def _assemble(name: str, tensors: Mapping[str, mx.array]) -> mx.array | QuantizedWeight:
    module = name.removesuffix(".weight")
    scales = tensors.get(f"{module}.scales")
    if scales is None:
        return tensors[name]
    biases = tensors.get(f"{module}.biases")
    if biases is None:
        raise ValueError(f"missing tensor {module}.biases, which belongs to {module}.scales")
    bits = tensors[name].shape[-1] // scales.shape[-1]  # a group of 32 numbers fills `bits` words
    return QuantizedWeight(tensors[name], scales, biases, _GROUP_SIZE, bits)


def _map_rows(weight: mx.array | QuantizedWeight, num_heads: int) -> mx.array | QuantizedWeight:
    """Undo the reordering of q and k rows, also of packed ones: a group never crosses a row."""
    if isinstance(weight, QuantizedWeight):
        packed, scales, biases = (_split_halves(part, num_heads) for part in (weight.weight, weight.scales, weight.biases))
        return QuantizedWeight(packed, scales, biases, weight.group_size, weight.bits)
    return _split_halves(weight, num_heads)


def _split_halves(rows: mx.array, num_heads: int) -> mx.array:
    """(num_heads * head_dim, ...) rows with RoPE pairs at (2i, 2i + 1) -> pairs at (i, i + head_dim / 2).

    llama.cpp rotates neighbours, so its converter interleaves the two halves of each head (`permute` in
    `convert_hf_to_gguf.py`, llama only). The course, like Hugging Face, rotates the two halves.
    """
    return rows.reshape(num_heads, -1, 2, *rows.shape[1:]).swapaxes(1, 2).reshape(rows.shape)
