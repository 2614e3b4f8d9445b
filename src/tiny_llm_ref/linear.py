"""Linear layers: y = x Wᵀ + b, for weights in full precision or in quantized groups."""

from collections.abc import Callable, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task
from tiny_llm_kit.machine.fast_math import by_columns, matmul_transposed
from tiny_llm_kit.models.quantized import QuantizedWeight


@task(week=1, day=5, number=1)
def linear(x: mx.array, weight: mx.array | QuantizedWeight, bias: mx.array | None = None) -> mx.array:
    """x Wᵀ + b.

    Args:
        x: `(..., K)`.
        weight: `(N, K)`; a `QuantizedWeight` is multiplied by `mx.quantized_matmul` without unpacking it.
        bias: `(N,)`.
    Returns:
        `(..., N)`.
    """
    if isinstance(weight, QuantizedWeight):
        y = mx.quantized_matmul(x, weight.weight, weight.scales, weight.biases, group_size=weight.group_size, bits=weight.bits)
    else:
        y = matmul_transposed(x, weight)
    return y if bias is None else y + bias


Product = Callable[[mx.array, mx.array | QuantizedWeight, mx.array | None], mx.array]


class Linear:
    """A linear layer that holds its weight `(N, K)` and bias `(N,)`; `product` computes it."""

    def __init__(self, weight: mx.array | QuantizedWeight, bias: mx.array | None = None, product: Product = linear) -> None:
        self.weight = by_columns(weight) if isinstance(weight, mx.array) else weight
        self.bias = bias
        self.product = product

    def __call__(self, x: mx.array) -> mx.array:
        """`(..., K)` to `(..., N)`."""
        return self.product(x, self.weight, self.bias)


def fuse(layers: Sequence[Linear]) -> Linear:
    """Fuse several linear layers with the same input into one, whose outputs are side by side: weights are stacked along N.

    In a small batch a product costs as much as reading its weight, plus a launch; fusing saves launches. All layers have to be
    computed in the same way: `product` is the first one's.

    Raises:
        ValueError: if some of the layers have a bias and others do not, or their weights have different formats.
    """
    biases = [layer.bias for layer in layers if layer.bias is not None]
    if len(biases) not in (0, len(layers)):
        raise ValueError(f"{len(biases)} of {len(layers)} layers have a bias: fuse layers that all have one, or none")
    weight = _stack_weights([layer.weight for layer in layers])
    bias = mx.concatenate(biases) if biases else None
    mx.eval(weight.arrays if isinstance(weight, QuantizedWeight) else weight, bias)  # so that any thread can compute with them
    return Linear(weight, bias, layers[0].product)


class FusedLinear:
    """Several linear layers with the same input, computed as one product (see `fuse`) that is split into their outputs."""

    def __init__(self, layers: Sequence[Linear]) -> None:
        sizes = [layer.weight.shape[0] for layer in layers]
        self.bounds = [sum(sizes[:i]) for i in range(1, len(sizes))]
        self.wide = fuse(layers)

    @task(week=1, day=5, number=1)
    def __call__(self, x: mx.array) -> list[mx.array]:
        """`(..., K)` to one `(..., Nᵢ)` per layer."""
        return list(mx.split(self.wide(x), self.bounds, axis=-1))


def _stack_weights(weights: Sequence[mx.array | QuantizedWeight]) -> mx.array | QuantizedWeight:
    quantized = [w for w in weights if isinstance(w, QuantizedWeight)]
    if not quantized:
        return mx.concatenate([w for w in weights if isinstance(w, mx.array)])
    first = quantized[0]
    formats = {(w.group_size, w.bits) for w in quantized}
    if len(quantized) != len(weights) or len(formats) > 1:
        raise ValueError(f"only weights of one format can be fused, got {len(quantized)} quantized of {len(weights)}")
    return QuantizedWeight(
        mx.concatenate([w.weight for w in quantized]),
        mx.concatenate([w.scales for w in quantized]),
        mx.concatenate([w.biases for w in quantized]),
        first.group_size,
        first.bits,
    )
