"""Rotary positions: a query or key at position p is turned by angles proportional to p.

Only the difference between two positions matters to their dot product (RoFormer, arXiv 2104.09864, section 3.2), so a key is
rotated once, when it is made, and never touched again: that is what makes a KV cache possible.
"""

import mlx.core as mx

from tiny_llm_kit.course import task

Rotation = tuple[mx.array, mx.array]


@task(week=1, day=2, number=1)
def rope_frequencies(head_dim: int, base: float) -> mx.array:
    """How far each pair of numbers turns per position: base^(−2i / head_dim) for i = 0 … head_dim/2 − 1, in radians.

    Returns:
        `(head_dim / 2,)`, float32.
    Raises:
        ValueError: if `head_dim` is odd.
    """
    if head_dim % 2:
        raise ValueError(f"head_dim is {head_dim}: rotary positions turn pairs, so it must be even")
    return mx.power(base, -mx.arange(0, head_dim, 2, dtype=mx.float32) / head_dim)


@task(week=1, day=2, number=2)
def token_positions(offset: int | mx.array, length: int) -> mx.array:
    """The positions `(1 or B, length)` that `offset` stands for, as in `RoPE.rotation`."""
    at = mx.array(offset)
    if at.ndim == 2:
        if at.shape[1] != length:
            raise ValueError(f"positions of shape {at.shape} for {length} tokens per row: there must be one for each token")
        return at
    return at.reshape(-1, 1) + mx.arange(length)


class RoPE:
    """Rotary position embedding for heads of `head_dim` numbers.

    Two layouts are in use for the pair that is turned together: the numbers i and i + D/2 (`traditional=False`: Llama and
    Qwen files in Hugging Face format) or the neighbours 2i and 2i + 1 (`traditional=True`: the RoFormer paper).

    The angles do not depend on the layer: a model asks for `rotation` once per step and every layer applies it.
    """

    def __init__(self, head_dim: int, base: float = 10000.0, traditional: bool = False) -> None:
        self.head_dim = head_dim
        self.base = base
        self.traditional = traditional

    @task(week=1, day=2, number=2)
    def rotation(self, offset: int | mx.array, length: int) -> Rotation:
        """Cosines and sines for `length` positions of each row.

        Args:
            offset: the first position, which the others follow: one int for all rows, or integers `(B,)`, one per row. Or all
                positions, integers `(B, length)`: then tokens of several sequences may share a row.
        Returns:
            (cos, sin), each float32 `(1 or B, length, 1, head_dim / 2)`.
        Raises:
            ValueError: if positions are given, but not `length` per row.
        """
        positions = token_positions(offset, length).astype(mx.float32)
        angles = positions[:, :, None, None] * rope_frequencies(self.head_dim, self.base)
        return mx.cos(angles), mx.sin(angles)

    @task(week=1, day=2, number=3)
    def rotate(self, x: mx.array, rotation: Rotation) -> mx.array:
        """Turn every pair (a, b) of the last axis into (a·cos − b·sin, b·cos + a·sin).

        Args:
            x: `(B, L, H, D)`.
            rotation: from `rotation(offset, L)`.
        Returns:
            Same shape and dtype.
        """
        cos, sin = rotation
        a, b = (x[..., ::2], x[..., 1::2]) if self.traditional else mx.split(x, 2, axis=-1)
        turned = [a * cos - b * sin, b * cos + a * sin]
        joined = mx.stack(turned, axis=-1).reshape(x.shape) if self.traditional else mx.concatenate(turned, axis=-1)
        return joined.astype(x.dtype)

    def __call__(self, x: mx.array, offset: int | mx.array = 0) -> mx.array:
        """Rotate `x` `(B, L, H, D)`, whose rows start at `offset`."""
        return self.rotate(x, self.rotation(offset, x.shape[1]))
