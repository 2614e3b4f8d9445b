"""The model of week 1's worked example: six words, vectors of four numbers, and one block that can be computed by hand.

All matrices of the block are the identity and all norms have weight 1, so the numbers show what the functions do. The head is
not: it was chosen so that the greedy continuation of "the cat sat" is "on the mat", and then the end token.
"""

import mlx.core as mx

from tiny_llm_kit.models.checkpoint import expected_shapes
from tiny_llm_kit.models.config import ModelConfig
from tiny_llm_kit.models.quantized import Weights

WORDS = ("the", "cat", "sat", "on", "mat", ".")
PROMPT = (0, 1, 2)
END = 5
EMBEDDING = [[-1, -1, 1, 1], [2, 0, 0, 0], [1, 1, 1, 1], [0, 0, 0, 2], [1, 1, 1, -1], [0, 2, 0, 0]]
"""A row per word. The mean square of each is 1, so a block's first norm leaves it as it is, except for eps."""
HEAD = [[0, 2, -2, 2], [-1, -2, 1, -1], [3, -3, -1, 0], [-1, 3, 0, 1], [0, -1, 1, 0], [0, 2, 0, -1]]

CONFIG = ModelConfig(
    architecture="llama",
    hidden_size=4,
    num_layers=1,
    num_heads=1,
    num_kv_heads=1,
    head_dim=4,
    intermediate_size=4,
    vocab_size=len(WORDS),
    rms_norm_eps=1e-5,
    rope_theta=100.0,
    max_position_embeddings=64,
    qkv_bias=False,
    qk_norm=False,
    tie_word_embeddings=False,
)


def embed(tokens: tuple[int, ...] = PROMPT) -> mx.array:
    """The tokens' vectors `(L, 4)`, float32."""
    return mx.array([EMBEDDING[token] for token in tokens], dtype=mx.float32)


def make_weights() -> Weights:
    """Every parameter of the model, by Hugging Face name, in float32."""
    weights: Weights = {}
    for name, shape in expected_shapes(CONFIG).items():
        weights[name] = mx.ones(shape) if len(shape) == 1 else mx.eye(shape[0])
    weights["model.embed_tokens.weight"] = mx.array(EMBEDDING, dtype=mx.float32)
    weights["lm_head.weight"] = mx.array(HEAD, dtype=mx.float32)
    return weights
