"""A model folder in Hugging Face's layout: `config.json` beside `model*.safetensors`, plain or quantized by mlx-lm.

It also knows which tensors a configuration calls for, and holds any set of weights against that list. It knows no tokenizer
and never goes to the network.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mlx.core as mx

from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights


def read_folder(folder: Path) -> tuple[ModelConfig, Weights]:
    """Read a model folder; the arrays are still lazy. Raises ValueError that names the file, setting or tensor at fault."""
    raw_config = _read_json(folder / "config.json")
    _check_quantization(raw_config)
    tensors: dict[str, mx.array] = {}
    for file in _weight_files(folder):
        tensors.update(_read_tensors(file))
    # The two libraries that write such folders disagree on what a missing setting means: the tensors know.
    tied = raw_config.get("tie_word_embeddings", "lm_head.weight" not in tensors)
    config = ModelConfig.from_hugging_face({**raw_config, "tie_word_embeddings": tied})
    weights = _pack(config, _without_leftovers(config, tensors))
    check_weights(config, weights)
    return config, weights


def expected_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name and full shape of every parameter of the model, under Hugging Face's names. Matrices are (N, K): y = x @ W.T"""
    hidden, head_dim = config.hidden_size, config.head_dim
    q_size, kv_size = config.num_heads * head_dim, config.num_kv_heads * head_dim
    layer: dict[str, tuple[int, ...]] = {
        "input_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (q_size, hidden),
        "self_attn.k_proj.weight": (kv_size, hidden),
        "self_attn.v_proj.weight": (kv_size, hidden),
        "self_attn.o_proj.weight": (hidden, q_size),
        "post_attention_layernorm.weight": (hidden,),
        "mlp.gate_proj.weight": (config.intermediate_size, hidden),
        "mlp.up_proj.weight": (config.intermediate_size, hidden),
        "mlp.down_proj.weight": (hidden, config.intermediate_size),
    }
    if config.qkv_bias:
        layer |= {f"self_attn.{x}_proj.bias": (size,) for x, size in (("q", q_size), ("k", kv_size), ("v", kv_size))}
    if config.qk_norm:
        layer |= {"self_attn.q_norm.weight": (head_dim,), "self_attn.k_norm.weight": (head_dim,)}
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    for i in range(config.num_layers):
        shapes |= {f"model.layers.{i}.{name}": shape for name, shape in layer.items()}
    shapes["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        shapes["lm_head.weight"] = (config.vocab_size, hidden)
    return shapes


def check_weights(config: ModelConfig, weights: Mapping[str, mx.array | QuantizedWeight]) -> None:
    """Raise ValueError unless `weights` are exactly the parameters that `config` calls for, each with its shape."""
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in weights:
            raise ValueError(f"missing tensor {name}, expected with shape {shape}: the model's files are not complete")
        if weights[name].shape != shape:
            raise ValueError(f"tensor {name} has the wrong shape: expected {shape}, got {weights[name].shape}")
    if unexpected := sorted(weights.keys() - expected.keys()):
        raise ValueError(
            f"unexpected tensor {unexpected[0]} (of {len(unexpected)}): a {config.architecture} model that the course "
            "implements has none of that name"
        )


def _without_leftovers(config: ModelConfig, tensors: Mapping[str, mx.array]) -> dict[str, mx.array]:
    """Drop what old exporters wrote and no model reads: RoPE's own table, and the second copy of a tied embedding."""
    leftover = ("rotary_emb.inv_freq", *(("lm_head.",) if config.tie_word_embeddings else ()))
    return {name: tensor for name, tensor in tensors.items() if not any(part in name for part in leftover)}


def _pack(config: ModelConfig, tensors: Mapping[str, mx.array]) -> Weights:
    """Join each triple weight, scales, biases into one QuantizedWeight.

    The shapes tell bits and group size: mlx-lm may choose them layer by layer, and `config.json` need not list all of them.
    """
    expected = expected_shapes(config)
    weights: Weights = dict(tensors)
    for module in [name.removesuffix(".scales") for name in tensors if name.endswith(".scales")]:
        name = f"{module}.weight"
        for part in (name, f"{module}.biases"):
            if part not in tensors:
                raise ValueError(f"missing tensor {part}, which belongs to {module}.scales")
        packed, scales, biases = tensors[name], tensors[f"{module}.scales"], tensors[f"{module}.biases"]
        del weights[f"{module}.scales"], weights[f"{module}.biases"]
        if name not in expected:
            continue  # check_weights names it
        K = expected[name][-1]
        try:
            weights[name] = QuantizedWeight(packed, scales, biases, K // scales.shape[-1], packed.shape[-1] * 32 // K)
        except ValueError as error:
            raise ValueError(f"tensor {name}, whose full shape should be {expected[name]}: {error}") from error
    return weights


def _check_quantization(config: Mapping[str, Any]) -> None:
    quantization = config.get("quantization")
    if quantization is not None:
        mode = quantization.get("mode", "affine")
        if mode != "affine":
            raise ValueError(f"quantization mode {mode!r} is not supported: choose a model quantized in affine groups")
    elif other := config.get("quantization_config"):
        method = other.get("quant_method")
        raise ValueError(f"quantization method {method!r} is not supported: choose a plain model or one by mlx-lm")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{file} is missing: a model folder holds config.json and model*.safetensors") from None
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error


def _weight_files(folder: Path) -> list[Path]:
    """The files that the index lists, or without an index every model*.safetensors."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return [folder / name for name in sorted(set(_read_json(index)["weight_map"].values()))]
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no model*.safetensors: download the model again, or convert it to safetensors")
    return files


def _read_tensors(file: Path) -> dict[str, mx.array]:
    if not file.exists():
        raise ValueError(f"{file} is missing, although the index lists it: download the model again")
    try:
        return mx.load(str(file))  # type: ignore[return-value]
    except RuntimeError as error:
        raise ValueError(f"{file} cannot be read: {error}") from error
