"""The feed-forward half of a transformer block: SwiGLU (arXiv 2002.05202)."""

from collections.abc import Callable, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.machine.fast_math import exp


@task(week=1, day=4, number=2)
def silu(x: mx.array) -> mx.array:
    """x · sigmoid(x), elementwise, in the dtype of `x`; finite for every finite `x`."""
    return x / (1.0 + exp(-x))


class MLP:
    """down(silu(gate(x)) · up(x)).

    Args:
        gate_up: maps `(..., E)` to the pair (gate, up), each `(..., I)`. The two come from one call because one wide
            product reads `x` once and is faster than two narrow ones.
        down: maps `(..., I)` to `(..., E)`.
        activation: silu, elementwise, in any implementation.
    """

    def __init__(
        self,
        gate_up: Callable[[mx.array], Sequence[mx.array]],
        down: Callable[[mx.array], mx.array],
        activation: Callable[[mx.array], mx.array] = silu,
    ) -> None:
        self.gate_up = gate_up
        self.down = down
        self.activation = activation

    @task(week=1, day=4, number=3)
    def __call__(self, x: mx.array) -> mx.array:
        """`(..., E)` to `(..., E)`."""
        gate, up = self.gate_up(x)
        return self.down(self.activation(gate) * up)
