"""What goes into a launch on the CPU runner and what comes out of it: counts, or a fault.

The ctypes structures mirror runtime/launch.h, field by field.
"""

import ctypes
from dataclasses import dataclass

from metal_anywhere.errors import Position


class BufferStruct(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
        ("origin", ctypes.c_uint64),
        ("written", ctypes.c_void_p),
        ("loads", ctypes.c_uint64),
        ("bytes_read", ctypes.c_uint64),
        ("stores", ctypes.c_uint64),
        ("bytes_written", ctypes.c_uint64),
    ]


class FaultStruct(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        ("subject", ctypes.c_int32),
        ("offset", ctypes.c_int64),
        ("count", ctypes.c_int64),
        ("threadgroup", ctypes.c_uint32 * 3),
        ("thread", ctypes.c_uint32 * 3),
        ("other_thread", ctypes.c_uint32 * 3),
        ("size", ctypes.c_uint32),
        ("writes", ctypes.c_uint32),
        ("line", ctypes.c_uint32),
        ("other_line", ctypes.c_uint32),
        ("code_offset", ctypes.c_uint64),
        ("other_code_offset", ctypes.c_uint64),
        ("file", ctypes.c_char_p),
        ("name", ctypes.c_char_p),
    ]


class LaunchStruct(ctypes.Structure):
    _fields_ = [
        ("buffers", ctypes.POINTER(BufferStruct)),
        ("buffer_count", ctypes.c_uint32),
        ("grid", ctypes.c_uint32 * 3),
        ("threadgroup", ctypes.c_uint32 * 3),
        ("order", ctypes.c_int32),
        ("whole_simd_groups", ctypes.c_int32),
        ("seed", ctypes.c_uint64),
        ("step_limit", ctypes.c_uint64),
        ("threadgroups", ctypes.c_uint64),
        ("barriers", ctypes.c_uint64),
        ("simd_operations", ctypes.c_uint64),
        ("threadgroup_bytes", ctypes.c_uint64),
        ("fault", FaultStruct),
    ]


@dataclass(frozen=True)
class Traffic:
    """What a launch did with one buffer of `bytes` bytes: instructions that load or store, and the bytes they moved."""

    bytes: int
    loads: int
    bytes_read: int
    stores: int
    bytes_written: int


@dataclass(frozen=True)
class Launch:
    """One launch on the CPU runner.

    barriers: times that a threadgroup passed a threadgroup_barrier. simd_operations: times that a SIMD group computed
    simd_sum and its like together. threadgroup_bytes: of one threadgroup's memory. buffers: inputs and outputs by name.
    """

    kernel: str
    grid: Position
    threadgroup: Position
    threadgroups: int
    barriers: int
    simd_operations: int
    threadgroup_bytes: int
    buffers: dict[str, Traffic]

    @property
    def threads(self) -> int:
        return self.grid[0] * self.grid[1] * self.grid[2]


@dataclass(frozen=True)
class Named:
    """A buffer as its messages name it: `itemsize` in bytes, `count` elements, and of an output its shape."""

    name: str
    itemsize: int
    count: int
    shape: tuple[int, ...] = ()
