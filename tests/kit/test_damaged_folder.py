"""Model folders that are damaged, or were made to harm: each ends in a ValueError that names file, setting and value."""

import contextlib
import json
import os
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kit.tiny_models import save_folder
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


@pytest.mark.parametrize(
    "key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size", "max_position_embeddings"]
)
@pytest.mark.parametrize("value", ["64", 64.0, True, -64, 0, 2**31, 10**30, [64], {"size": 64}])
def test_a_size_is_a_whole_number(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"config.json: {key} must be a whole number from 1 to 2147483647, got "):
        load(save_folder(tmp_path, tiny_config(), **{key: value}))


@pytest.mark.parametrize("key", ["rms_norm_eps", "rope_theta"])
@pytest.mark.parametrize("value", ["1e-5", True, -1.0, 0, float("nan"), float("inf"), 10**400, [1.0]])
def test_a_number_is_positive_and_finite(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"config.json: {key} must be a positive number, got "):
        load(save_folder(tmp_path, tiny_config(), **{key: value}))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_hidden_layers": 10**5}, ".*100000 layers .num_hidden_layers.* the model's files hold only 29 tensors"),
        ({"num_key_value_heads": 0}, "num_key_value_heads must be a whole number"),
        ({"head_dim": "wide"}, "head_dim must be a whole number .*got 'wide'"),
        ({"num_attention_heads": 128, "head_dim": None}, "head_dim must be a whole number .*got 0"),
        ({"model_type": ["llama"]}, r"architecture \['llama'\] is not supported"),
        ({"rope_scaling": 3}, "rope_scaling must be an object, got 3"),
        ({"rope_parameters": "plain"}, "rope_parameters must be an object, got 'plain'"),
        ({"rope_parameters": {"rope_theta": "far"}, "rope_theta": None}, "rope_theta must be a positive number, got 'far'"),
        ({"layer_types": "full_attention"}, "layer_types 'full_attention' are not supported"),
        ({"layer_types": 3}, "layer_types 3 are not supported"),
        ({"layer_types": [3, "full_attention"]}, r"layer_types \[3, 'full_attention'\] are not supported"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings must be true or false, got 'yes'"),
        ({"quantization": 4}, "quantization must be an object, got 4"),
        ({"quantization_config": [4]}, r"quantization_config must be an object, got \[4\]"),
        ({"eos_token_id": "<|end|>"}, "eos_token_id must be the id of a token, got '<|end|>'"),
        ({"eos_token_id": [3, True]}, "eos_token_id must be the id of a token, got True"),
        ({"eos_token_id": -1}, "eos_token_id must be the id of a token, got -1"),
        ({"eos_token_id": 260}, "eos_token_id 260 is not in the model's vocabulary, which ends at 259"),
    ],
)
def test_a_setting_of_the_wrong_kind_is_named(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=f"model.*: {message}".replace("|", r"\|")):
        load(save_folder(tmp_path, tiny_config(), **settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("{", "is not JSON"),
        ("[]", r"must hold a JSON object, got \[\]"),
        ("3", "must hold a JSON object, got 3"),
        ("[" * 10**5, "is not JSON"),
        ('{"a": ' + "9" * 10**4 + "}", "is not JSON"),
        (b"\xff\xfe{}", "is not JSON"),
    ],
)
@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_json_that_is_none_is_named(tmp_path: Path, name: str, text: str | bytes, message: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=f"{name} {message}"):
        load(folder)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ({}, "must have a weight_map"),
        ({"weight_map": ["model.safetensors"]}, "must have a weight_map"),
        ({"weight_map": {}}, "must have a weight_map"),
        ({"weight_map": {"a": 3}}, "the file of a must be a .safetensors file, got 3"),
        ({"weight_map": {"a": "config.json"}}, "the file of a must be a .safetensors file, got 'config.json'"),
        ({"weight_map": {"a": "../model.safetensors"}}, "the file of a must be in the model's folder"),
        ({"weight_map": {"a": "/model.safetensors"}}, "the file of a must be in the model's folder"),
        ({"weight_map": {"a": "..\\model.safetensors"}}, "the file of a must be in the model's folder"),
        ({"weight_map": {"a": "b\0.safetensors"}}, "the file of a must be in the model's folder"),
        ({"weight_map": {"a": "x" * 300 + ".safetensors"}}, "x.safetensors cannot be read: File name too long"),
    ],
)
def test_an_index_that_is_none_is_named(tmp_path: Path, index: Any, message: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    mx.save_safetensors(str(tmp_path / "model.safetensors"), random_weights(tiny_config()))  # what ../ would lead to
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=message):
        load(folder)


def safetensors(header: Any, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


@pytest.mark.parametrize(
    "contents",
    [
        b"not a model",
        (2**63).to_bytes(8, "little") + b"{}",
        safetensors([]),
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 16]}}),
        safetensors({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"a": {"dtype": "F32", "shape": [4], "data_offsets": [2**50, 2**50 + 16]}}, bytes(16)),
        safetensors({"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"a": {"dtype": "F99", "shape": [4], "data_offsets": [0, 16]}}, bytes(16)),
        safetensors({"a": 3}),
    ],
)
def test_weights_that_are_no_safetensors_are_named(tmp_path: Path, contents: bytes) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / "model.safetensors").write_bytes(contents)
    with pytest.raises(ValueError, match=r"model.safetensors cannot be read: .*Download the model again"):
        load(folder)


@pytest.mark.parametrize("size", [0, 7, 100, 5000, -1])
def test_weights_cut_short_are_named(tmp_path: Path, size: int) -> None:
    folder = save_folder(tmp_path, tiny_config())
    file = folder / "model.safetensors"
    os.truncate(file, size % file.stat().st_size)
    with pytest.raises(ValueError, match=r"model.safetensors (is empty|cannot be read)"):
        load(folder)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json"])
def test_what_is_no_file_is_named(tmp_path: Path, name: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(ValueError, match=f"{name} is a folder, where a file belongs"):
        load(folder)
    (folder / name).rmdir()
    os.mkfifo(folder / name)
    with pytest.raises(ValueError, match=f"{name} is not an ordinary file"):
        load(folder)
    (folder / name).unlink()
    (folder / name).symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=f"{name} is a link to a file that is not there|no tokenizer: one of {name}"):
        load(folder)


def test_a_file_without_leave_to_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save_folder(tmp_path, tiny_config())
    opened = Path.open

    def refuse(self: Path, *arguments: Any, **options: Any) -> Any:
        if self.name == "config.json":
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"config.json cannot be read: Permission denied"):
        load(folder)


@pytest.mark.parametrize("dtype", [mx.int32, mx.bool_, mx.uint8])
def test_weights_are_floating_point(tmp_path: Path, dtype: mx.Dtype) -> None:
    weights = random_weights(tiny_config())
    name = "model.layers.1.mlp.up_proj.weight"
    folder = save_folder(tmp_path, tiny_config(), {**weights, name: weights[name].astype(dtype)})
    with pytest.raises(ValueError, match=f"tensor {name} must hold floating-point numbers, got {dtype}"):
        load(folder)


@pytest.mark.parametrize("shape", [(), (4,), (0, 4), (2, 2, 2)])
def test_scales_that_are_no_matrix_are_named(tmp_path: Path, shape: tuple[int, ...]) -> None:
    config = tiny_config()
    folder = save_folder(tmp_path, config)
    module = "model.layers.0.mlp.up_proj"
    count = 1
    for size in shape:
        count *= size
    tensor = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4 * count]}
    biases = {**tensor, "data_offsets": [4 * count, 8 * count]}
    (folder / "model-scales.safetensors").write_bytes(
        safetensors({f"{module}.scales": tensor, f"{module}.biases": biases}, bytes(8 * count))
    )
    with pytest.raises(ValueError, match=f"tensor {module}.weight, whose full shape should be"):
        load(folder)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, tiny_config(vocab_size=257))
    assert load(folder).tokenizer.vocab_size == 257, "256 bytes and <|end|>, whose id is 256, fit"
    (tmp_path / "other").mkdir()
    folder = save_folder(tmp_path / "other", tiny_config(vocab_size=256))
    with pytest.raises(ValueError, match="largest token id is 256, but the model's vocabulary ends at 255"):
        load(folder)


def test_a_tokenizer_with_gaps_between_its_ids_counts_to_the_largest(tmp_path: Path) -> None:
    folder = save_folder(tmp_path, tiny_config())
    file = folder / "tokenizer.json"
    settings = json.loads(file.read_text())
    settings["model"]["vocab"]["!"] = 300
    file.write_text(json.dumps(settings))
    with pytest.raises(ValueError, match="largest token id is 300, but the model's vocabulary ends at 259"):
        load(folder)


@pytest.mark.parametrize("content", ["{}", '{"model": {"type": "BPE"}}', '{"version": "1.0", "model": 3, "added_tokens": []}'])
def test_a_tokenizer_that_is_none_is_named(tmp_path: Path, content: str) -> None:
    folder = save_folder(tmp_path, tiny_config())
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match=r"the tokenizer of .*model cannot be read .*download the model again"):
        load(folder)


@pytest.mark.parametrize(
    ("file", "outcome"),
    [
        ("tokenizer_config.json", pytest.raises(ValueError, match=r"is code of its own, which is never run")),
        ("config.json", contextlib.nullcontext()),  # transformers knows the tokenizer, so it needs no code
    ],
)
def test_a_model_never_runs_its_own_code(
    tmp_path: Path, file: str, outcome: contextlib.AbstractContextManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("nothing should ask whether to run a model's code"))
    folder = save_folder(tmp_path, tiny_config())
    witness = tmp_path / "it-ran"
    (folder / "own.py").write_text(
        f"import pathlib\npathlib.Path({str(witness)!r}).touch()\n"
        "from transformers import PreTrainedTokenizerFast as Own, PretrainedConfig as OwnConfig\n"
    )
    settings = json.loads((folder / file).read_text())
    settings |= {"tokenizer_class": "Own", "model_file": "own.py", "chat_template_type": "own", "tool_parser_type": "own"}
    settings["auto_map"] = {"AutoTokenizer": ["own.Own", "own.Own"], "AutoConfig": "own.OwnConfig"}
    (folder / file).write_text(json.dumps(settings))
    with outcome:
        load(folder)
    assert not witness.exists(), "code from a model folder ran"
