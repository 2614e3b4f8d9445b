"""GGUF files: a tiny model written as llama.cpp's converter writes it comes back as it was, or is refused by name."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from kit.tiny_gguf import gguf_metadata, gguf_tensors, save_gguf
from kit.tiny_models import TOKENS, TOLERANCE, logits, mlx_lm_model
from tiny_llm_kit.models.load import load
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config


@pytest.mark.parametrize("tied", [True, False])
def test_gguf_gives_back_what_was_converted(tmp_path: Path, tied: bool) -> None:
    config = tiny_config(tie_word_embeddings=tied)
    weights = random_weights(config)
    file = save_gguf(tmp_path, config, weights)
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
    file = save_gguf(tmp_path, config, weights)
    expected = mlx_lm_model(config, in_pairs, rope_traditional=True)(TOKENS)
    assert mx.allclose(logits(load(file)), expected, **TOLERANCE), (
        "rows as GGUF has them, rotated as neighbours, and rows as the kit has them, rotated as halves, are the same model"
    )


def test_gguf_tokenizer_is_read_from_the_metadata(tmp_path: Path) -> None:
    file = save_gguf(tmp_path, tiny_config())
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
    file = save_gguf(tmp_path, tiny_config(), **changes)
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
