"""Launches kernels that are wrong, and gives back what the CPU runner has to say."""

from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from metal_anywhere import MetalError, MetalSource, cpu_runner, metal_kernel

COUNT = 64


def run(body: str, order: str = "ascending", header: str = "", outputs: int = COUNT, **call: Any) -> mx.array:
    """Launches `body`, as if it came from broken.metal, in two threadgroups of 32: input x and output y of 64 floats."""
    source = MetalSource(body, Path("broken.metal"))
    kernel = metal_kernel("broken", ["x"], ["y"], source, header)
    options = {"grid": (COUNT, 1, 1), "threadgroup": (32, 1, 1), "output_shapes": [(outputs,)], "output_dtypes": [mx.float32]}
    with cpu_runner(order):
        return kernel(inputs=[mx.arange(COUNT, dtype=mx.float32)], **(options | call))[0]


def caught(kind: type[MetalError], body: str, **options: Any) -> MetalError:
    with pytest.raises(kind) as caught:
        run(body, **options)
    assert type(caught.value) is kind
    assert caught.value.kernel == "broken"
    return caught.value
