"""What quantization saves and what it costs: the bytes that the machine reads per token, and perplexity."""

import math
from collections.abc import Sequence

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.models.load import Weights

from .model import Model

EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"


@task(week=2, day=2, number=5)
def bytes_per_token(weights: Weights) -> int:
    """How many bytes of weights one decode step of one row reads; keys, values and activations are not counted.

    Every parameter is read once, a packed matrix with its scales and biases. The embedding table is read whole if it is also
    the head (a model without "lm_head.weight" is tied); otherwise only one row of it is read.
    """
    total = sum(weight.nbytes for weight in weights.values())
    if HEAD in weights:
        table = weights[EMBEDDING]
        total -= table.nbytes // table.shape[0] * (table.shape[0] - 1)
    return total


@task(week=2, day=2, number=5)
def perplexity(model: Model, tokens: Sequence[int], window: int = 256) -> float:
    """exp of the mean negative log likelihood of a text's tokens: between how many tokens the model wavers, in effect.

    Each token except the first is predicted once, from those of its window that come before it: the window that starts at s
    sees `tokens[s : s + window]` and predicts the token after each of them. Windows follow one another without a gap or an
    overlap; the last may be shorter. They bound the memory, most of which is for logits, `(window, V)`.

    Args:
        tokens: at least two ids.
    Returns:
        At least 1 (certain, and right); V for a model that finds every token equally likely. Computed in float32.
    Raises:
        ValueError: if there are fewer than two tokens, or `window` is less than 1.
    """
    if len(tokens) < 2:
        raise ValueError(f"{len(tokens)} tokens are too few: the first is not predicted, so perplexity takes at least 2")
    if window < 1:
        raise ValueError(f"window is {window}: it must be at least 1 token")
    predicted = len(tokens) - 1
    total = 0.0
    for start in range(0, predicted, window):
        end = min(start + window, predicted)
        logits = model(mx.array([list(tokens[start:end])]))[0].astype(mx.float32)
        targets = mx.array(list(tokens[start + 1 : end + 1]))[:, None]
        likely = mx.take_along_axis(logits, targets, axis=-1)[:, 0]
        total += float((mx.logsumexp(logits, axis=-1) - likely).sum())
    return math.exp(total / predicted)
