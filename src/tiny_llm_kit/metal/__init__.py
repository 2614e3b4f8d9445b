"""Metal kernels on every machine: on Apple silicon, on NVIDIA, and, watched at every step, on any CPU."""

from tiny_llm_kit.metal.errors import (
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
from tiny_llm_kit.metal.kernel import MetalKernel, metal_kernel
from tiny_llm_kit.metal.launch import Launch, Traffic
from tiny_llm_kit.metal.settings import cpu_runner
from tiny_llm_kit.metal.source import MetalSource, read_metal

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
    "cpu_runner",
    "metal_kernel",
    "read_metal",
]
