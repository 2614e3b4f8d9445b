"""The CPU runner: compiles a Metal kernel as C++ and runs each of its threads, with every access to memory watched.

What it finds it reports as a `MetalError`. It is made to be strict and exact, not fast, and it can't tell what a GPU's
compiler would say or how fast a kernel is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

from metal_anywhere import cache, compiler, opencl_check
from metal_anywhere.address_spaces import SPACES, declared_types, find_bare_pointers, find_variables_of_functions
from metal_anywhere.arena import Arena, Buffer, bits, is_buffer, make_buffer
from metal_anywhere.errors import CompileError, NeverWritten, Position
from metal_anywhere.faults import error_from
from metal_anywhere.launch import BufferStruct, FaultStruct, Launch, LaunchStruct, Traffic
from metal_anywhere.library import Library, load
from metal_anywhere.limits import check_grid, check_outputs
from metal_anywhere.recursion import find_recursion, may_recurse
from metal_anywhere.rewrite import to_cpp
from metal_anywhere.settings import current_settings
from metal_anywhere.signature import Parameter, Signature, Template, check_size, generate
from metal_anywhere.source import KernelDefinition, MetalSource

_STEPS = 20_000_000  # of one thread, in pieces of code between two branches
GENERATED = "<generated>"

# MLX puts its utilities before every kernel. The words that Metal lacks are made unusable after them.
_PRELUDE = """#include "metal_stdlib"
#include "mlx/backend/metal/kernels/utils.h"
using namespace metal;
#pragma GCC poison double printf malloc alloca __builtin_alloca new delete
#pragma GCC poison goto try catch throw virtual typeid dynamic_cast thread_local
"""


class CpuKernel:
    """A kernel for the CPU runner; called like what `mx.fast.metal_kernel` returns, but it computes at once."""

    def __init__(self, definition: KernelDefinition) -> None:
        self.definition = definition
        self.name = definition.name
        self.body_file = _label(definition.source, f"<{definition.name}>")
        self.header_file = _label(definition.header, f"<header of {definition.name}>")
        self.compiled: dict[Any, _Compiled] = {}

    def __call__(
        self,
        *,
        inputs: Sequence[Any],
        output_shapes: Sequence[Sequence[int]],
        output_dtypes: Sequence[mx.Dtype],
        grid: Position,
        threadgroup: Position,
        template: Template | None = None,
        init_value: float | None = None,
        verbose: bool = False,
        stream: Any = None,
    ) -> list[mx.array]:
        """Runs the kernel to its end; `stream` means nothing here. Raises what `errors` lists, and ValueError."""
        check_size("inputs", inputs, self.definition.input_names)
        check_size("output_shapes", output_shapes, self.definition.output_names)
        check_size("output_dtypes", output_dtypes, self.definition.output_names)
        grid, threadgroup = check_grid(grid, threadgroup)
        outputs = check_outputs(self.definition.output_names, output_shapes, output_dtypes)
        arrays = [value if isinstance(value, mx.array) else mx.array(value) for value in inputs]
        if self.definition.ensure_row_contiguous:
            arrays = [mx.contiguous(array) for array in arrays]
        views = [bits(array) for array in arrays]  # evaluates them
        compiled = self._compiled(arrays, output_dtypes, template or (), verbose)
        return self._run(compiled, views, outputs, grid, threadgroup, init_value)

    def _compiled(self, arrays: list[mx.array], dtypes: Sequence[mx.Dtype], template: Template, verbose: bool) -> "_Compiled":
        key = tuple((a.dtype, a.ndim == 0, a.size < 8) for a in arrays), tuple(dtypes), tuple(template)
        if key not in self.compiled or verbose:
            signature = generate(self.definition, arrays, dtypes, template)
            if verbose:
                print(f"Generated source code for `{self.name}`:\n```\n{signature.text}\n```")
            self._check_address_spaces(template)
            rewrite = opencl_check.checked_first(to_cpp, signature, self.header_file, self.body_file, self.name)
            path = compiler.build(self._translation_unit(signature), rewrite, self._check_calls, self.name)
            self.compiled[key] = _Compiled(self._load(path), signature.parameters)
        return self.compiled[key]

    def _check_address_spaces(self, template: Template) -> None:
        types = (*(name for name, value in template if isinstance(value, mx.Dtype)), *declared_types(self.definition.header))
        for text, file in ((self.definition.header, self.header_file), (self.definition.source, self.body_file)):
            for line, pointer in find_bare_pointers(text, types):
                problem = f"`{pointer}` does not say where it points to. Metal wants one of {', '.join(SPACES)} before the type"
                raise CompileError(problem, kernel=self.name, location=f"{file}:{line}")
        for line, variable in find_variables_of_functions(self.definition.header):
            problem = f"only a kernel can declare a variable in threadgroup memory: give the function a pointer to `{variable}`"
            raise CompileError(problem, kernel=self.name, location=f"{self.header_file}:{line}")

    def _load(self, path: Path) -> Library:
        try:
            return load(path)
        except OSError as error:  # a folder from which nothing may be executed, for example
            problem = f"what was compiled cannot be loaded: {error}. ${cache.VARIABLE} chooses another folder"
            raise CompileError(problem, kernel=self.name) from error

    def _check_calls(self, unit: Path) -> None:
        texts = [(self.header_file, self.definition.header), (self.body_file, self.definition.source)]
        if not may_recurse("\n".join(text for _, text in texts)):
            return
        assembly = compiler.list_calls(unit, self.name)
        for file, text in texts:
            if found := find_recursion(assembly, text):
                problem, line = found
                raise CompileError(problem, kernel=self.name, location=f"{file}:{line}")

    def _translation_unit(self, signature: Signature) -> str:
        instance = signature.function + signature.template_arguments
        return "\n".join(
            [
                # What was compiled without a clang is not taken for checked once there is one.
                f"// Address spaces checked: {'yes' if opencl_check.find_clang() else 'no'}",
                _PRELUDE,
                f'#line 1 "{self.header_file}"',
                signature.header,
                f'#line 1 "{GENERATED}"',
                signature.head.rstrip("\n"),
                f'#line 1 "{self.body_file}"',
                signature.body,
                "}",
                f'#line 1 "{GENERATED}"',
                'extern "C" MSL_UNCHECKED void msl_entry(char* const* buffers, const msl::Tid* tid) {',
                f"  msl::call(&{instance}, {', '.join(_arguments(signature.parameters))});",
                "}",
                "",
            ]
        )

    def _run(
        self,
        compiled: "_Compiled",
        views: list[np.ndarray],
        outputs: list[tuple[tuple[int, ...], mx.Dtype]],
        grid: Position,
        threadgroup: Position,
        init_value: float | None,
    ) -> list[mx.array]:
        buffers = [
            make_buffer(parameter, views, outputs, init_value) for parameter in compiled.parameters if is_buffer(parameter)
        ]
        arena = Arena([buffer.span.size for buffer in buffers])
        structs = (BufferStruct * len(buffers))()
        for index, buffer in enumerate(buffers):
            if buffer.filled:
                arena.fill(index, buffer.span)
            structs[index].data = arena.addresses[index]
            structs[index].size = buffer.span.size
            structs[index].origin = buffer.span.origin
            structs[index].written = buffer.written.ctypes.data if buffer.written is not None else None
        settings = current_settings()
        launch = LaunchStruct(
            structs,
            len(buffers),
            grid,
            threadgroup,
            order=settings.order,
            whole_simd_groups=not settings.partial_simd_groups,
            seed=settings.seed,
            step_limit=_STEPS,
        )
        compiled.library.run(launch)
        if launch.fault.kind:
            places = self._locations(launch.fault, compiled.library.path)
            raise error_from(launch.fault, self.name, *places, [buffer.named for buffer in buffers])
        for buffer in buffers:
            self._check_written(buffer, grid)
        settings.launches.append(self._describe(launch, buffers, structs))
        indices = [index for index, buffer in enumerate(buffers) if buffer.written is not None]
        return [arena.read(index, *output) for index, output in zip(indices, outputs, strict=True)]

    def _locations(self, fault: FaultStruct, library: Path) -> tuple[str | None, str | None]:
        """Where the fault is in the source, and where the other thread's access."""
        files = {self.body_file, self.header_file}
        known = f"{fault.file.decode()}:{fault.line}" if fault.file else None
        return (
            known or compiler.find_line(library, fault.code_offset, files),
            compiler.find_line(library, fault.other_code_offset, files) if fault.other_code_offset else None,
        )

    def _check_written(self, buffer: Buffer, grid: Position) -> None:
        if buffer.written is None or buffer.written.all():
            return
        named = buffer.named
        missing = np.unique(np.flatnonzero(buffer.written == 0) // named.itemsize)
        first = ", ".join(str(index) for index in np.unravel_index(missing[0], named.shape))
        raise NeverWritten(
            f"{len(missing)} of the {named.count} elements of {named.name} were never written, the first is "
            f"{named.name}[{first}]: does the grid of {math.prod(grid)} threads cover it, "
            "and does each thread write all that is its own?",
            kernel=self.name,
        )

    def _describe(self, launch: LaunchStruct, buffers: list[Buffer], structs: Any) -> Launch:
        traffic = {
            buffer.named.name: Traffic(s.size, s.loads, s.bytes_read, s.stores, s.bytes_written)
            for buffer, s in zip(buffers, structs, strict=True)
            if buffer.counts
        }
        return Launch(
            self.name,
            tuple(launch.grid),
            tuple(launch.threadgroup),
            launch.threadgroups,
            launch.barriers,
            launch.simd_operations,
            launch.threadgroup_bytes,
            traffic,
        )


@dataclass(frozen=True)
class _Compiled:
    library: Library
    parameters: list[Parameter]


def _arguments(parameters: list[Parameter]) -> list[str]:
    """What is passed for each parameter: a pointer to the buffer, or the attribute's value. Attributes come last."""
    return [f"buffers[{i}]" if is_buffer(p) else f"tid->{p.name}" for i, p in enumerate(parameters)]


def _label(text: str, otherwise: str) -> str:
    return text.path.name if isinstance(text, MetalSource) else otherwise
