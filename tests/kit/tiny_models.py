"""Tiny models in the forms that models are published in, and mlx-lm's model code as the oracle for all of them."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import mlx_lm.utils
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tiny_llm_kit.bench.peer import mlx_lm_model as mlx_lm_model
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.load import LoadedModel, Weights
from tiny_llm_kit.models.tiny_random import random_weights

# Two ways to the same float32 logits (of size ~10) round differently in sums of up to 128 numbers and three layers.
TOLERANCE = {"rtol": 1e-3, "atol": 1e-3}

TOKENS = mx.array([[72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100]])


def logits(loaded: LoadedModel) -> mx.array:
    return mlx_lm_model(loaded.config, loaded.weights)(TOKENS)


def small_tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE without a merge, with an end token of its own."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={character: i for i, character in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>")


def save_folder(parent: Path, config: ModelConfig, weights: Weights | None = None, **settings: Any) -> Path:
    """Write a model folder as Hugging Face does; `settings` end up in its config.json."""
    folder = parent / "model"
    folder.mkdir()
    mx.save_safetensors(str(folder / "model.safetensors"), weights or random_weights(config))
    (folder / "config.json").write_text(json.dumps({**config.to_hugging_face(), **settings}))
    small_tokenizer().save_pretrained(folder)
    return folder


def save_quantized(parent: Path, config: ModelConfig) -> Path:
    """Write a model folder as mlx-lm's converter does: 4 bits in groups of 32, the embedding in 8 bits in groups of 64."""

    def choose(path: str, module: nn.Module) -> bool | dict[str, Any]:
        return {"group_size": 64, "bits": 8} if "embed_tokens" in path else hasattr(module, "to_quantized")

    folder = save_folder(parent, config)
    model = mlx_lm_model(config, random_weights(config))
    model, settings = mlx_lm.utils.quantize_model(model, config.to_hugging_face(), 32, 4, quant_predicate=choose)
    mlx_lm.utils.save_model(folder, model)
    mlx_lm.utils.save_config(settings, folder / "config.json")
    return folder
