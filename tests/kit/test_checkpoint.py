"""Model folders in Hugging Face's layout, and configurations: read as mlx-lm reads them, or refused by name.

The oracle is mlx-lm's own `load` on the same folder.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx_lm.utils
import pytest

from kit.tiny_models import TOKENS, TOLERANCE, logits, save_folder, save_quantized
from tiny_llm_kit.models.config import SUPPORTED_ARCHITECTURES, ModelConfig
from tiny_llm_kit.models.load import QuantizedWeight, check_weights, load
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_plain_folder_gives_the_logits_of_mlx_lm(tmp_path: Path, architecture: str) -> None:
    config = tiny_config(architecture)
    folder = save_folder(tmp_path, config)
    oracle, _ = mlx_lm.utils.load(str(folder))
    loaded = load(folder, keep_quantized=False)
    assert loaded.config == config
    assert loaded.name == str(folder)
    assert mx.allclose(logits(loaded), oracle(TOKENS), **TOLERANCE), "the same folder should give mlx-lm's logits"


@pytest.mark.parametrize("architecture", SUPPORTED_ARCHITECTURES)
def test_quantized_folder_gives_the_logits_of_mlx_lm(tmp_path: Path, architecture: str) -> None:
    folder = save_quantized(tmp_path, tiny_config(architecture))
    oracle, _ = mlx_lm.utils.load(str(folder))
    loaded = load(str(folder), keep_quantized=False)
    assert {weight.dtype for weight in loaded.weights.values()} == {mx.float32}
    assert mx.allclose(logits(loaded), oracle(TOKENS), **TOLERANCE), "the same folder should give mlx-lm's logits"


def test_quantized_folder_can_stay_packed(tmp_path: Path) -> None:
    folder = save_quantized(tmp_path, tiny_config("qwen2"))
    packed, dense = load(folder, keep_quantized=True).weights, load(folder, keep_quantized=False).weights
    widths = {name: (w.bits, w.group_size) for name, w in packed.items() if isinstance(w, QuantizedWeight)}
    assert widths["model.embed_tokens.weight"] == (8, 64), "the converter chose another width for the embedding"
    assert widths["lm_head.weight"] == widths["model.layers.2.mlp.down_proj.weight"] == (4, 32)
    assert packed.keys() == dense.keys()
    for name, weight in packed.items():
        full = weight.dequantize(mx.float32) if isinstance(weight, QuantizedWeight) else weight
        assert weight.shape == dense[name].shape
        assert mx.array_equal(full, dense[name]), f"{name} packed and {name} in float32 should be the same numbers"


def test_folder_in_several_files(tmp_path: Path) -> None:
    config = tiny_config()
    weights = random_weights(config)
    folder = save_folder(tmp_path, config, weights)
    (folder / "model.safetensors").unlink()
    files = {name: f"model-0000{1 + ('layers' in name)}-of-00002.safetensors" for name in weights}
    for file in set(files.values()):
        mx.save_safetensors(str(folder / file), {name: w for name, w in weights.items() if files[name] == file})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": files}))
    loaded = load(folder)
    assert all(mx.array_equal(loaded.weights[name], weight) for name, weight in weights.items())
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"model-00002-of-00002.safetensors is missing"):
        load(folder)


def test_leftovers_of_old_exporters_are_dropped(tmp_path: Path) -> None:
    config = tiny_config(tie_word_embeddings=True)
    weights = random_weights(config)
    leftovers = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": mx.ones(8),
        "lm_head.weight": weights["model.embed_tokens.weight"] + 0,
    }
    folder = save_folder(tmp_path, config, {**weights, **leftovers})
    assert load(folder).weights.keys() == weights.keys()


@pytest.mark.parametrize("tied", [True, False])
def test_tied_embeddings_show_in_the_tensors_when_the_configuration_is_silent(tmp_path: Path, tied: bool) -> None:
    config = tiny_config(tie_word_embeddings=tied)
    folder = save_folder(tmp_path, config)
    settings = json.loads((folder / "config.json").read_text())
    del settings["tie_word_embeddings"]
    (folder / "config.json").write_text(json.dumps(settings))
    assert load(folder).config == config


def test_end_tokens_come_from_the_configuration_too(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, tiny_config(), eos_token_id=[3, 5])
    assert load(folder).tokenizer.eos_token_ids == {3, 5, 256}, "config.json says 3 and 5, the tokenizer 256"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "mamba"}, "'mamba' is not supported.*llama, qwen2, qwen3"),
        ({"model_type": None}, "no 'model_type'"),
        ({"hidden_size": None}, "no 'hidden_size'"),
        ({"num_key_value_heads": 3}, r"num_heads \(4\).*num_kv_heads \(3\)"),
        ({"num_hidden_layers": 0}, "num_hidden_layers must be a whole number from 1 to 2147483647, got 0"),
        ({"head_dim": 15}, "head_dim must be even, got 15"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, "rope_scaling of type 'llama3' is not supported yet"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}}, "rope_scaling of type 'linear' is not supported yet"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters of type 'yarn' is not supported yet"),
        ({"attention_bias": True}, "attention_bias=True is not supported"),
        ({"mlp_bias": True}, "mlp_bias=True is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act='gelu' is not supported"),
        ({"use_sliding_window": True}, "use_sliding_window=True is not supported"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention.*not supported"),
        ({"quantization": {"group_size": 32, "bits": 4, "mode": "mxfp4"}}, "mode 'mxfp4' is not supported"),
        ({"quantization_config": {"quant_method": "gptq"}}, "method 'gptq' is not supported"),
        ({"vocab_size": 300}, r"model.embed_tokens.weight.*expected \(300, 64\), got \(260, 64\)"),
        ({"num_hidden_layers": 4}, r"missing tensor model.layers.3.input_layernorm.weight.*\(64,\)"),
        ({"num_hidden_layers": 2}, "unexpected tensor model.layers.2"),
    ],
)
def test_folder_that_is_not_supported_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(save_folder(tmp_path, tiny_config(), **settings))


@pytest.mark.parametrize("setting", [None, {"rope_type": "default"}, {"type": "default"}])
def test_plain_rope_by_any_name_is_accepted(tmp_path: Path, setting: dict[str, Any] | None) -> None:
    load(save_folder(tmp_path, tiny_config(), rope_scaling=setting))


def test_rope_theta_where_transformers_5_keeps_it() -> None:
    settings = tiny_config("qwen3").to_hugging_face()
    settings["rope_parameters"] = {"rope_type": "default", "rope_theta": settings.pop("rope_theta") * 100}
    assert ModelConfig.from_hugging_face(settings).rope_theta == 1e6


@pytest.mark.parametrize("changes", [{"architecture": "qwen2"}, {"qkv_bias": True}, {"qk_norm": True}])
def test_configuration_that_contradicts_its_architecture(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        replace(tiny_config("llama"), **changes)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_file_is_named(tmp_path: Path, file: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / file).unlink()
    with pytest.raises(ValueError, match=r"model.*safetensors" if file == "model.safetensors" else file):
        load(folder)


@pytest.mark.parametrize(("file", "message"), [("config.json", "is not JSON"), ("model.safetensors", "cannot be read")])
def test_broken_file_is_named(tmp_path: Path, file: str, message: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / file).write_text("{")
    with pytest.raises(ValueError, match=f"{file} {message}"):
        load(folder)


def test_check_weights_names_tensor_expected_and_got() -> None:
    config = tiny_config("qwen2")
    weights = random_weights(config)
    check_weights(config, weights)
    name = "model.layers.1.self_attn.v_proj.bias"
    with pytest.raises(ValueError, match=rf"{name}.*expected \(32,\), got \(64,\)"):
        check_weights(config, {**weights, name: mx.zeros(64)})
    with pytest.raises(ValueError, match=f"missing tensor {name}"):
        check_weights(config, {key: weight for key, weight in weights.items() if key != name})
    with pytest.raises(ValueError, match=r"unexpected tensor model.layers.1.self_attn.o_proj.bias"):
        check_weights(config, {**weights, "model.layers.1.self_attn.o_proj.bias": mx.zeros(64)})


def test_packed_tensor_without_its_biases_is_named(tmp_path: Path) -> None:
    folder = save_quantized(tmp_path, tiny_config())
    tensors = mx.load(str(folder / "model.safetensors"))
    mx.eval(tensors)
    del tensors["model.norm.weight"], tensors["model.layers.0.mlp.up_proj.biases"]
    mx.save_safetensors(str(folder / "model.safetensors"), tensors)
    with pytest.raises(ValueError, match=r"missing tensor model.layers.0.mlp.up_proj.biases"):
        load(folder)


def test_quantized_weight_refuses_what_is_no_matrix() -> None:
    packed, scales, biases = mx.quantize(mx.ones((4, 64)), group_size=32, bits=4)
    with pytest.raises(ValueError, match="4 bits in groups of 16"):
        QuantizedWeight(packed, scales, biases, 16, 4)
    with pytest.raises(ValueError, match=r"\(4, 64\) matrix must be \(4, 16\), got \(4, 8\)"):
        QuantizedWeight(packed, scales, biases, 32, 8)
    with pytest.raises(ValueError, match="must have one shape"):
        QuantizedWeight(packed, scales, biases[:, :1], 32, 4)
    with pytest.raises(ValueError, match="must be uint32"):
        QuantizedWeight(packed.astype(mx.float32), scales, biases, 32, 4)
