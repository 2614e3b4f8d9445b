"""Tiny random models and a tokenizer of bytes: for tests and exercises in which any model will do.

The weights mean nothing, but they are spread so that the model behaves like one: every token and every position changes the
logits, the greedy choice is seldom close to a tie, and generated text does not collapse into one token.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from tiny_llm_kit.models.checkpoint import expected_shapes
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.quantized import Weights
from tiny_llm_kit.models.tokenizer import StreamingDetokenizer, checked_text


def tiny_config(architecture: str = "llama", **changes: Any) -> ModelConfig:
    """A model of 3 layers and about 100 thousand parameters; `changes` replace fields of ModelConfig."""
    config = ModelConfig(
        architecture=architecture,
        hidden_size=64,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_dim=32 if architecture == "qwen3" else 16,  # Qwen3's heads are wider than hidden_size / num_heads
        intermediate_size=128,
        vocab_size=ByteTokenizer.vocab_size,
        rms_norm_eps=1e-5,
        rope_theta=10000.0,
        max_position_embeddings=512,
        qkv_bias=architecture == "qwen2",
        qk_norm=architecture == "qwen3",
        tie_word_embeddings=architecture == "llama",
    )
    return replace(config, **changes)


def random_weights(config: ModelConfig, seed: int = 0) -> Weights:
    """Every parameter of a model, in float32. The same configuration and seed give the same weights on every machine."""
    generator = np.random.default_rng(seed)
    return {name: mx.array(_random(generator, name, shape)) for name, shape in expected_shapes(config).items()}


def _random(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Normal noise, sized by what the parameter does.

    Projections amplify (3), which makes the layers outweigh the embedding: in a tied model the logits would otherwise repeat
    the input token. Queries and keys amplify less (1.5): scores with a deviation of about 2 look at several positions, where
    larger ones would look at a single one and hide a wrong mask.
    """
    noise = generator.standard_normal(shape, dtype=np.float32)
    if name.endswith((".q_norm.weight", ".k_norm.weight")):
        return 1.5 + 0.2 * noise
    if name.endswith("norm.weight"):
        return 1.0 + 0.2 * noise
    if name.endswith(".bias"):
        return 0.2 * noise
    if "embed_tokens" in name:
        return 0.5 * noise
    gain = np.float32(1.5 if "q_proj" in name or "k_proj" in name else 3.0)
    return gain / np.sqrt(np.float32(shape[-1])) * noise


class ByteTokenizer:
    """A `Tokenizer` whose ids 0..255 are the bytes of UTF-8; then the end of a turn, and a marker for each role."""

    _ROLES = ("system", "user", "assistant")
    _MARKERS = ("<|end|>", *(f"<|{role}|>" for role in _ROLES))
    vocab_size = 256 + len(_MARKERS)
    eos_token_ids = frozenset({256})

    def encode(self, text: str) -> list[int]:
        return list(checked_text(text).encode())

    def decode(self, tokens: Sequence[int]) -> str:
        pieces = (bytes([token]) if token < 256 else self._MARKERS[token - 256].encode() for token in tokens)
        return b"".join(pieces).decode(errors="replace")

    def apply_chat_template(self, messages: list[dict[str, str]]) -> list[int]:
        (end,) = self.eos_token_ids
        tokens: list[int] = []
        for message in messages:
            tokens += [self._role(message["role"]), *self.encode(message["content"]), end]
        return [*tokens, self._role("assistant")]

    def detokenizer(self) -> StreamingDetokenizer:
        return StreamingDetokenizer(self.decode)

    def _role(self, role: str) -> int:
        if role not in self._ROLES:
            raise ValueError(f"unknown role {role!r}: choose one of {', '.join(self._ROLES)}")
        return 257 + self._ROLES.index(role)
