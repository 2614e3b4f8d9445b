"""What the runtime notes when a kernel is at fault, as an exception that says it in words."""

from collections.abc import Callable
from typing import Any

from metal_anywhere.errors import (
    BarrierDivergence,
    DataRace,
    KernelFault,
    MetalError,
    NeverEnds,
    OutOfBounds,
    Position,
    ThreadgroupMemoryExceeded,
    UninitializedRead,
)
from metal_anywhere.launch import FaultStruct, Named

THREADGROUP_MEMORY = 32 * 1024


def error_from(
    fault: FaultStruct, kernel: str, location: str | None, other_location: str | None, buffers: list[Named]
) -> MetalError:
    """The exception that says what the runtime noted. `other_location`: of the other thread of a data race."""
    kind, describe = _FAULTS[fault.kind]
    return kind(
        describe(fault, buffers, other_location),
        kernel=kernel,
        location=location,
        threadgroup=_position(fault.threadgroup),
        thread=_position(fault.thread),
    )


def _position(numbers: Any) -> Position:
    return numbers[0], numbers[1], numbers[2]


def _verb(fault: FaultStruct) -> str:
    return "writes" if fault.writes else "reads"


def _element(fault: FaultStruct, buffers: list[Named]) -> str:
    buffer = buffers[fault.subject]
    return f"{buffer.name}[{fault.offset // buffer.itemsize}]"


def _out_of_buffer(fault: FaultStruct, buffers: list[Named], *_: Any) -> str:
    buffer = buffers[fault.subject]
    if buffer.itemsize == 1 and fault.size > 1:  # a view of other numbers: in bytes, as its strides are
        return f"{_verb(fault)} {fault.size} bytes from byte {fault.offset} of {buffer.name}, which has {buffer.count} bytes"
    width = "" if fault.size == buffer.itemsize else f" ({fault.size} bytes from there)"
    return (
        f"{_verb(fault)} {_element(fault, buffers)}{width}, "
        f"but {buffer.name} has {buffer.count} elements of {buffer.itemsize} bytes"
    )


def _out_of_array(fault: FaultStruct, *_: Any) -> str:
    return f"index {fault.offset} of an array of type {fault.name.decode()}"


def _stray(fault: FaultStruct, *_: Any) -> str:
    return f"{_verb(fault)} {fault.size} bytes at an address that lies in no buffer and no variable"


def _input_written(fault: FaultStruct, buffers: list[Named], *_: Any) -> str:
    return f"writes {_element(fault, buffers)}, which is an input"


def _unwritten_read(fault: FaultStruct, buffers: list[Named], *_: Any) -> str:
    return (
        f"reads {_element(fault, buffers)}, an output that nothing has been written to yet: give init_value, or write it first"
    )


def _uninitialized(fault: FaultStruct, *_: Any) -> str:
    return (
        f"reads element {fault.offset} of the threadgroup variable {fault.name.decode()}, which no thread has written yet: "
        "does one write it, and is there a barrier between that and this reading?"
    )


def _unfilled_matrix(fault: FaultStruct, *_: Any) -> str:
    return (
        f"{fault.name.decode()} was never filled: make_filled_simdgroup_matrix, simdgroup_load or a product has to come first"
    )


def _race(fault: FaultStruct, _: list[Named], other_location: str | None) -> str:
    where = f" in {other_location}" if other_location else ""
    return (
        f"{_verb(fault)} element {fault.offset} of the threadgroup variable {fault.name.decode()}, which thread "
        f"{_position(fault.other_thread)} uses{where}, with no threadgroup_barrier(mem_flags::mem_threadgroup) in between that "
        "both pass: a GPU may do the two in any order"
    )


def _ended_at_barrier(fault: FaultStruct, *_: Any) -> str:
    return f"waits at a barrier that {fault.count} threads of its threadgroup never reach: they have ended"


def _different_barriers(fault: FaultStruct, *_: Any) -> str:
    other = _position(fault.other_thread)
    return f"waits at a barrier, while thread {other} waits at the one in line {fault.other_line}: all must reach the same one"


def _partial_simd_group(fault: FaultStruct, *_: Any) -> str:
    return (
        f"a SIMD function is reached by {fault.count} of the {fault.size} lanes of this SIMD group; the others have ended, or "
        "are elsewhere: let every lane come, with a number that changes nothing (0, −INFINITY) from one that has no work"
    )


def _too_much_memory(fault: FaultStruct, *_: Any) -> str:
    return (
        f"with {fault.name.decode()} the kernel uses {fault.count} bytes of threadgroup memory; "
        f"a threadgroup has {THREADGROUP_MEMORY} (32 KB)"
    )


def _never_ends(fault: FaultStruct, *_: Any) -> str:
    return f"has not ended after {fault.count} steps: does its loop advance, and can its condition become false?"


def _division(*_: Any) -> str:
    return "divides an integer by zero"


def _no_stacks(fault: FaultStruct, *_: Any) -> str:
    return f"this machine has no memory for the stacks of {fault.count} threads: use smaller threadgroups"


def _stack_exhausted(*_: Any) -> str:
    return "the functions that call each other need more memory for their variables than a thread has: Metal has no recursion"


Describe = Callable[[FaultStruct, list[Named], str | None], str]

# In the order of FaultKind in runtime/launch.h, which begins with "no fault".
_FAULTS: dict[int, tuple[type[MetalError], Describe]] = dict(
    enumerate(
        [
            (OutOfBounds, _out_of_buffer),
            (OutOfBounds, _out_of_array),
            (OutOfBounds, _stray),
            (OutOfBounds, _input_written),
            (UninitializedRead, _unwritten_read),
            (UninitializedRead, _uninitialized),
            (UninitializedRead, _unfilled_matrix),
            (DataRace, _race),
            (BarrierDivergence, _ended_at_barrier),
            (BarrierDivergence, _different_barriers),
            (BarrierDivergence, _partial_simd_group),
            (ThreadgroupMemoryExceeded, _too_much_memory),
            (NeverEnds, _never_ends),
            (KernelFault, _division),
            (KernelFault, _no_stacks),
            (KernelFault, _stack_exhausted),
        ],
        start=1,
    )
)
