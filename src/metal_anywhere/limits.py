"""What a launch may ask for. MLX and Metal count in 32 bits along an axis; a machine has only so much memory."""

import math
import operator
import os
from collections.abc import Sequence
from typing import Any

import mlx.core as mx

from metal_anywhere.errors import Position

MOST_THREADS = 1024  # of a threadgroup, on every Apple GPU
_LARGEST = 2**31 - 1  # along an axis, of grids and arrays


def check_grid(grid: Any, threadgroup: Any) -> tuple[Position, Position]:
    """Both as plain numbers. ValueError when they are not three whole numbers each, or too large."""
    grid, threadgroup = _three_sizes("grid", grid), _three_sizes("threadgroup", threadgroup)
    if math.prod(threadgroup) > MOST_THREADS:
        raise ValueError(f"a threadgroup of {threadgroup} has {math.prod(threadgroup)} threads: {MOST_THREADS} is the most")
    if math.prod(grid) >= 2**63:
        raise ValueError(f"a grid of {grid} has {math.prod(grid)} threads, more than 64 bits can count")
    return grid, threadgroup


def _three_sizes(name: str, value: Any) -> Position:
    try:
        x, y, z = map(operator.index, value)
    except (TypeError, ValueError):
        raise ValueError(f"{name} is {value}: it takes three whole numbers (x, y, z) of threads, each at least 1") from None
    if min(x, y, z) < 1 or max(x, y, z) > _LARGEST:
        raise ValueError(f"{name} is {value}: each of (x, y, z) is at least 1 thread, and at most 2³¹ - 1 = {_LARGEST}")
    return x, y, z


def check_outputs(
    names: Sequence[str], shapes: Sequence[Any], dtypes: Sequence[mx.Dtype]
) -> list[tuple[tuple[int, ...], mx.Dtype]]:
    """Shape and dtype of each output. ValueError names the one whose shape is none, or that has no room here."""
    checked = [(_shape(name, shape), dtype) for name, shape, dtype in zip(names, shapes, dtypes, strict=True)]
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for name, (shape, dtype) in zip(names, checked, strict=True):
        size = math.prod(shape) * dtype.size
        if size > memory:
            raise ValueError(
                f"output {name} of shape {shape} takes {size / 2**30:,.1f} GiB, but this machine has {memory / 2**30:,.1f} GiB"
            )
    return checked


def _shape(name: str, shape: Any) -> tuple[int, ...]:
    try:
        sizes = tuple(map(operator.index, shape))
    except TypeError:
        raise ValueError(f"the shape of output {name} is {shape!r}: it takes a tuple of whole numbers") from None
    if any(not 0 <= size <= _LARGEST for size in sizes):
        raise ValueError(f"the shape of output {name} is {sizes}: each axis has 0 to 2³¹ - 1 = {_LARGEST} elements")
    return sizes
