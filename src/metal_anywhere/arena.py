"""The memory of one launch on the CPU runner: a copy of each buffer, far from the next, so that a step over an edge shows."""

import ctypes
import math
from dataclasses import dataclass

import mlx.core as mx
import numpy as np

from metal_anywhere.launch import Named
from metal_anywhere.signature import Parameter

MARGIN = 64 * 1024  # bytes before, between and after buffers
_ALIGNMENT = 64


@dataclass(frozen=True)
class Span:
    """Bytes of existing memory. `origin`: where in them the element with all indices 0 lies, which strides start from."""

    address: int
    size: int
    origin: int = 0


def bits(array: mx.array) -> np.ndarray:
    """A numpy view of an evaluated array, with its strides; bfloat16, which numpy lacks, as uint16."""
    return np.asarray(array.view(mx.uint16) if array.dtype == mx.bfloat16 else array)


def span_of(view: np.ndarray) -> Span:
    """All that lies between the first and the last element of a view, gaps included."""
    if view.size == 0:
        return Span(0, 0)
    reach = [(size - 1) * stride for size, stride in zip(view.shape, view.strides, strict=True)]
    below = -sum(step for step in reach if step < 0)
    above = sum(step for step in reach if step > 0) + view.itemsize
    return Span(view.__array_interface__["data"][0] - below, below + above, below)


@dataclass(frozen=True)
class Buffer:
    """What a parameter points to. `written`: a flag a byte, for outputs. `keep` owns the memory of `span`."""

    named: Named
    span: Span
    keep: np.ndarray | None
    written: np.ndarray | None = None
    counts: bool = True

    @property
    def filled(self) -> bool:
        return self.keep is not None


def make_buffer(
    parameter: Parameter,
    views: list[np.ndarray],
    outputs: list[tuple[tuple[int, ...], mx.Dtype]],
    init_value: float | None,
) -> Buffer:
    index = int(parameter.of)
    if parameter.kind == "output":
        shape, dtype = outputs[index]
        count = math.prod(shape)
        start = None if init_value is None else bits(mx.full(shape, init_value, dtype))
        span = Span(0, count * dtype.size) if start is None else span_of(start)
        written = (np.zeros if start is None else np.ones)(count * dtype.size, np.uint8)
        return Buffer(Named(parameter.name, dtype.size, count, shape), span, start, written)
    view = views[index]
    if parameter.kind == "input":
        span = span_of(view)
        return Buffer(Named(parameter.name, view.itemsize, span.size // view.itemsize), span, view)
    about: dict[str, np.ndarray] = {
        "shape": np.array(view.shape, np.int32),
        "strides": np.array([stride // view.itemsize for stride in view.strides], np.int64),
        "ndim": np.array([view.ndim], np.int32),
    }
    numbers = about[parameter.kind]
    return Buffer(Named(parameter.name, numbers.itemsize, numbers.size), span_of(numbers), numbers, counts=False)


def is_buffer(parameter: Parameter) -> bool:
    return parameter.kind != "attribute"


class Arena:
    """Room for the given sizes, in bytes; `addresses` says where each begins."""

    def __init__(self, sizes: list[int]) -> None:
        offsets, end = [], MARGIN
        for size in sizes:
            offsets.append(end)
            end += (size + MARGIN + _ALIGNMENT - 1) // _ALIGNMENT * _ALIGNMENT
        self.memory = np.empty(end + _ALIGNMENT, dtype=np.uint8)
        start = -self.memory.ctypes.data % _ALIGNMENT
        self.offsets = [start + offset for offset in offsets]
        self.addresses = [self.memory.ctypes.data + offset for offset in self.offsets]

    def fill(self, index: int, span: Span) -> None:
        ctypes.memmove(self.addresses[index], span.address, span.size)

    def read(self, index: int, shape: tuple[int, ...], dtype: mx.Dtype) -> mx.array:
        """The buffer as an array of its own."""
        stored = mx.zeros((0,), dtype)
        layout = bits(stored).dtype
        start, size = self.offsets[index], math.prod(shape) * layout.itemsize
        array = mx.array(self.memory[start : start + size].view(layout).reshape(shape))
        return array.view(dtype) if dtype == mx.bfloat16 else array
