"""Sizes of well-known models, for what needs their shapes and not their weights; and those of a `config.json`."""

import json
from pathlib import Path

from tiny_llm_kit.models.config import ModelConfig

_COMMON = {"rms_norm_eps": 1e-5, "max_position_embeddings": 131072}
_SIZES = {
    # hidden size, layers, heads, heads of keys and values, size of a head, MLP, vocabulary, whether the output is the embedding
    "smollm2-135m": ("llama", 576, 30, 9, 3, 64, 1536, 49152, True),
    "llama-3.2-1b": ("llama", 2048, 16, 32, 8, 64, 8192, 128256, True),
    "llama-3-8b": ("llama", 4096, 32, 32, 8, 128, 14336, 128256, False),
    "llama-3-70b": ("llama", 8192, 80, 64, 8, 128, 28672, 128256, False),
    "qwen2.5-7b": ("qwen2", 3584, 28, 28, 4, 128, 18944, 152064, False),
    "qwen3-8b": ("qwen3", 4096, 36, 32, 8, 128, 12288, 151936, False),
}
"""Taken from the `config.json` of each, on the Hugging Face hub. The first is the embedded model's."""

SHAPES = tuple(_SIZES)

_NO_SHAPE = ("rope_scaling", "rope_parameters", "layer_types", "use_sliding_window", "rope_theta")
"""Settings that the course's model code may refuse, and that change no size."""


def shape(name: str) -> ModelConfig:
    """The sizes of a model in `SHAPES`."""
    architecture, hidden, layers, heads, kv_heads, head_dim, mlp, vocabulary, tied = _SIZES[name]
    settings = {
        "model_type": architecture,
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": mlp,
        "vocab_size": vocabulary,
        "tie_word_embeddings": tied,
    }
    return ModelConfig.from_hugging_face(settings | _COMMON)


def read_shape(path: Path) -> ModelConfig:
    """The sizes in a `config.json`, whatever its positions and attention windows.

    Raises:
        ValueError: if it cannot be read, or belongs to a model whose sizes the course can't read; it names the file.
    """
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(settings, dict):
            raise ValueError("it holds no object")
        return ModelConfig.from_hugging_face({key: value for key, value in settings.items() if key not in _NO_SHAPE})
    except OSError as error:
        raise ValueError(f"cannot read {str(path)!r} ({error.strerror}): give a model's config.json") from None
    except RecursionError:
        raise ValueError(f"{str(path)!r} is not a config.json that can be read: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is not a config.json that can be read: {error}") from None
