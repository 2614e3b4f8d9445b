"""Metal kernels on every machine: on Apple silicon, on NVIDIA, and, watched at every step, on any CPU."""

from metal_anywhere.backend import backend
from metal_anywhere.errors import (
    BarrierDivergence,
    CompileError,
    DataRace,
    KernelFault,
    MetalError,
    NeverEnds,
    NeverWritten,
    NoCompiler,
    OutOfBounds,
    ThreadgroupMemoryExceeded,
    UninitializedRead,
)
from metal_anywhere.kernel import MetalKernel, metal_kernel
from metal_anywhere.launch import Launch, Traffic
from metal_anywhere.settings import cpu_runner
from metal_anywhere.source import MetalSource, find_stub, read_metal, stub_line

__all__ = [
    "BarrierDivergence",
    "CompileError",
    "DataRace",
    "KernelFault",
    "Launch",
    "MetalError",
    "MetalKernel",
    "MetalSource",
    "NeverEnds",
    "NeverWritten",
    "NoCompiler",
    "OutOfBounds",
    "ThreadgroupMemoryExceeded",
    "Traffic",
    "UninitializedRead",
    "backend",
    "cpu_runner",
    "find_stub",
    "metal_kernel",
    "read_metal",
    "stub_line",
]
