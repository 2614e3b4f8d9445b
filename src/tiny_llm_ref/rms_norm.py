"""RMSNorm: scale a vector to length √D, then multiply each number by a learned weight."""

import mlx.core as mx

from tiny_llm_kit.course import task


class RMSNorm:
    """x / √(mean(x²) + eps) · weight, over the last axis (arXiv 1910.07467).

    Args:
        weight: `(D,)`.
        eps: keeps the division finite for a vector of zeros.
    """

    def __init__(self, weight: mx.array, eps: float = 1e-5) -> None:
        self.weight = weight
        self.eps = eps

    @task(week=1, day=4, number=1)
    def __call__(self, x: mx.array) -> mx.array:
        """Normalize `x` `(..., D)`; the mean is taken in float32, the result has the dtype of `x`."""
        wide = x.astype(mx.float32)
        scale = mx.rsqrt(mx.mean(mx.square(wide), axis=-1, keepdims=True) + self.eps)
        return (wide * scale).astype(x.dtype) * self.weight.astype(x.dtype)
