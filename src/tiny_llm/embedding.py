"""The embedding: a table with one row per token, read on the way into the model and often multiplied by on the way out."""

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.models.quantized import QuantizedWeight

from .linear import Product, linear


class Embedding:
    """Token vectors.

    Args:
        weight: `(V, E)`, for a vocabulary of V tokens.
        product: computes `as_linear`.
    """

    def __init__(self, weight: mx.array | QuantizedWeight, product: Product = linear) -> None:
        self.weight = weight
        self.product = product

    @task(week=1, day=5, number=2)
    def __call__(self, tokens: mx.array) -> mx.array:
        """Token ids `(B, L)` to vectors `(B, L, E)`. If the table is quantized, only the rows in use are unpacked."""
        raise NotImplementedError("Week 1 Day 5, task 2: the embedding. Read book/src/week1-05-model.md")

    @task(week=1, day=5, number=2)
    def as_linear(self, x: mx.array) -> mx.array:
        """Vectors `(..., E)` to logits `(..., V)` with the same table ("tied" embeddings, arXiv 1608.05859)."""
        raise NotImplementedError("Week 1 Day 5, task 2: the embedding. Read book/src/week1-05-model.md")
