"""What MLX computes on in this process."""

from typing import Literal

import mlx.core as mx


def backend() -> Literal["metal", "cuda", "cpu"]:
    """What MLX computes on by default in this process."""
    if mx.default_device() == mx.Device(mx.cpu):
        return "cpu"
    return "metal" if mx.metal.is_available() else "cuda"
