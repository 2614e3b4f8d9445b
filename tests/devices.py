"""Where MLX computes in a test."""

from collections.abc import Iterator

import mlx.core as mx
import pytest


@pytest.fixture
def on_the_cpu() -> Iterator[None]:
    """What a device prepares ahead of what it computes differs, and so does when an array may be taken over."""
    device = mx.default_device()
    mx.set_default_device(mx.cpu)
    yield
    mx.set_default_device(device)
