"""A model folder in Hugging Face's layout: `config.json` next to `model*.safetensors`, plain or quantized by mlx-lm.

It also knows which tensors a configuration calls for, and compares any set of weights with that list. It knows no tokenizer and
never uses the network.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, cast

import mlx.core as mx

from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.files import check_file, read_json
from tiny_llm_kit.models.quantized import QuantizedWeight, Weights


def read_folder(folder: Path) -> tuple[ModelConfig, Weights]:
    """Read a model folder; the arrays are still lazy. Raises ValueError that names the file, setting or tensor at fault."""
    config_file = folder / "config.json"
    settings = read_json(config_file)
    tensors: dict[str, mx.array] = {}
    for file in _weight_files(folder):
        tensors.update(_read_tensors(file))
    try:
        config = _config(settings, tensors)
    except ValueError as error:
        raise ValueError(f"{config_file}: {error}") from error
    try:
        check_depth(config, tensors)
        weights = _pack(config, _without_leftovers(config, tensors))
        check_weights(config, weights)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
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
    """Raise ValueError unless `weights` are exactly the parameters that `config` calls for, each with its shape, in floats."""
    check_depth(config, weights)
    expected = expected_shapes(config)
    for name, shape in expected.items():
        if name not in weights:
            raise ValueError(f"missing tensor {name}, expected with shape {shape}: the model's files are not complete")
        weight = weights[name]
        if weight.shape != shape:
            raise ValueError(f"tensor {name} has the wrong shape: expected {shape}, got {weight.shape}")
        if isinstance(weight, mx.array) and not mx.issubdtype(weight.dtype, mx.floating):
            raise ValueError(f"tensor {name} must hold floating-point numbers, got {weight.dtype}")
    if unexpected := sorted(weights.keys() - expected.keys()):
        raise ValueError(
            f"unexpected tensor {unexpected[0]} (of {len(unexpected)}): a {config.architecture} model that the course "
            "implements has none of that name"
        )


def check_depth(config: ModelConfig, names: Collection[str]) -> None:
    """Raise ValueError if there are fewer tensors than layers: a list of what is expected could be of any length."""
    if config.num_layers > len(names):
        raise ValueError(
            f"the configuration has {config.num_layers} layers (num_hidden_layers, or block_count in GGUF), but the model's "
            f"files hold only {len(names)} tensors: correct the number, or download the model again"
        )


def _config(settings: Mapping[str, Any], tensors: Collection[str]) -> ModelConfig:
    _check_quantization(settings)
    # The two libraries that write such folders disagree on what a missing setting means: the tensors know.
    tied = settings.get("tie_word_embeddings")
    if tied is None:
        tied = "lm_head.weight" not in tensors
    return ModelConfig.from_hugging_face({**settings, "tie_word_embeddings": tied})


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
        try:
            weights[name] = _quantized(packed, scales, biases, columns=expected[name][-1])
        except ValueError as error:
            raise ValueError(f"tensor {name}, whose full shape should be {expected[name]}: {error}") from error
    return weights


def _quantized(packed: mx.array, scales: mx.array, biases: mx.array, columns: int) -> QuantizedWeight:
    if packed.ndim != 2 or scales.ndim != 2 or scales.size == 0:
        raise ValueError(f"packed weights {packed.shape} and scales {scales.shape} must have two dimensions")
    return QuantizedWeight(packed, scales, biases, columns // scales.shape[-1], packed.shape[-1] * 32 // columns)


def _check_quantization(settings: Mapping[str, Any]) -> None:
    for key in ("quantization", "quantization_config"):
        if not isinstance(settings.get(key) or {}, dict):
            raise ValueError(f"{key} must be an object, got {settings[key]!r:.80}")
    quantization = settings.get("quantization")
    if quantization is not None:
        mode = quantization.get("mode", "affine")
        if mode != "affine":
            raise ValueError(f"quantization mode {mode!r} is not supported: choose a model quantized in affine groups")
    elif other := settings.get("quantization_config"):
        method = other.get("quant_method")
        raise ValueError(f"quantization method {method!r} is not supported: choose a plain model or one by mlx-lm")


def _weight_files(folder: Path) -> list[Path]:
    """The files that the index lists, or without an index every model*.safetensors."""
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return [folder / name for name in _indexed_files(index)]
    files = sorted(folder.glob("model*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no model*.safetensors: download the model again, or convert it to safetensors")
    return files


def _indexed_files(index: Path) -> list[str]:
    """Names of the files in an index's `weight_map`, all of them in the model's own folder."""
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise ValueError(f"{index} must have a weight_map, from tensors to files, got {weight_map!r:.80}: download it again")
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name.endswith(".safetensors"):
            raise ValueError(f"{index}: the file of {tensor} must be a .safetensors file, got {name!r:.80}")
        if set(name) & set("/\\\0"):
            raise ValueError(f"{index}: the file of {tensor} must be in the model's folder, got {name!r:.80}")
    return sorted(set(weight_map.values()))


def _read_tensors(file: Path) -> dict[str, mx.array]:
    """The tensors of a safetensors file, lazy. MLX checks their offsets against the file's size."""
    check_file(file)
    try:
        return cast(dict[str, mx.array], mx.load(str(file), format="safetensors"))
    except (RuntimeError, ValueError) as error:
        raise ValueError(f"{file} cannot be read: {error}. Download the model again") from error
