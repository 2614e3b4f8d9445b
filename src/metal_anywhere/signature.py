"""Puts the signature around a kernel's body, as MLX does: the same text, to the letter, that Metal would compile.

MLX (`mx.fast.metal_kernel`) writes a parameter for each input and output, and one for each shape, stride and attribute
that the body names; `mlx/backend/common/metal_kernel.cpp` says how. Nothing here compiles or runs what it writes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import mlx.core as mx

from metal_anywhere.source import KernelDefinition

Template = Sequence[tuple[str, mx.Dtype | int | bool]]

METAL_TYPES = {  # all but float64, which no GPU of Apple has
    mx.float32: "float",
    mx.float16: "float16_t",
    mx.bfloat16: "bfloat16_t",
    mx.complex64: "complex64_t",
    mx.bool_: "bool",
    mx.int8: "int8_t",
    mx.int16: "int16_t",
    mx.int32: "int32_t",
    mx.int64: "int64_t",
    mx.uint8: "uint8_t",
    mx.uint16: "uint16_t",
    mx.uint32: "uint32_t",
    mx.uint64: "uint64_t",
}

# What Metal tells a thread about itself ("kernel function input attributes" in the Metal Shading Language Specification).
ATTRIBUTES = {
    "dispatch_quadgroups_per_threadgroup": "uint",
    "dispatch_simdgroups_per_threadgroup": "uint",
    "dispatch_threads_per_threadgroup": "uint3",
    "grid_origin": "uint3",
    "grid_size": "uint3",
    "quadgroup_index_in_threadgroup": "uint",
    "quadgroups_per_threadgroup": "uint",
    "simdgroup_index_in_threadgroup": "uint",
    "simdgroups_per_threadgroup": "uint",
    "thread_execution_width": "uint",
    "thread_index_in_quadgroup": "uint",
    "thread_index_in_simdgroup": "uint",
    "thread_index_in_threadgroup": "uint",
    "thread_position_in_grid": "uint3",
    "thread_position_in_threadgroup": "uint3",
    "threadgroup_position_in_grid": "uint3",
    "threadgroups_per_grid": "uint3",
    "threads_per_grid": "uint3",
    "threads_per_simdgroup": "uint",
    "threads_per_threadgroup": "uint3",
}

_SMALLEST_IN_DEVICE_MEMORY = 8  # elements; smaller inputs lie in `constant` memory
_INT_RANGE = range(-(2**31), 2**31)


@dataclass(frozen=True)
class Parameter:
    """One parameter of a kernel. `of` is the index of the input or output it belongs to, or the attribute's name."""

    name: str
    kind: Literal["input", "shape", "strides", "ndim", "output", "attribute"]
    of: int | str


@dataclass(frozen=True)
class Signature:
    """The source of a kernel, in four parts that make the whole one after the other, and what it is called with.

    `head` ends with the line that opens the function, `body` is what the author wrote, and `tail` closes the function
    and instantiates the template. `template_arguments` is "<float, 4>", or "" for a function that is no template.
    """

    header: str
    head: str
    body: str
    tail: str
    function: str
    template_arguments: str
    parameters: list[Parameter]

    @property
    def text(self) -> str:
        return self.header + self.head + self.body + self.tail


def generate(
    definition: KernelDefinition, inputs: Sequence[mx.array], output_dtypes: Sequence[mx.Dtype], template: Template = ()
) -> Signature:
    """The kernel that MLX would compile for a call with these arrays.

    ValueError when there are more or fewer arrays or dtypes than names, when a template argument is of the wrong type,
    and for float64.
    """
    check_size("inputs", inputs, definition.input_names)
    check_size("output_dtypes", output_dtypes, definition.output_names)
    values = [_template_value(argument, value) for argument, value in template]
    template_arguments = f"<{', '.join(values)}>" if values else ""
    function = _function_name(definition.name, values, inputs, output_dtypes)
    parameters = _parameters(definition, inputs)
    declarations = ",\n".join(
        f"  {_declaration(parameter, inputs, output_dtypes, definition.atomic_outputs)} [[{_binding(parameter, index)}]]"
        for index, parameter in enumerate(parameters)
    )
    head, tail = f"[[kernel]] void {function}(\n{declarations}) {{\n", "\n}\n"
    if template:
        instance = function + template_arguments
        head = f"template <{', '.join(f'{_template_kind(value)} {argument}' for argument, value in template)}>\n{head}"
        tail += f'\ntemplate [[host_name("{function}")]] [[kernel]] decltype({instance}) {instance};\n'
    return Signature(definition.header, head, definition.source, tail, function, template_arguments, parameters)


def _function_name(name: str, values: Sequence[str], inputs: Sequence[mx.array], output_dtypes: Sequence[mx.Dtype]) -> str:
    """One name for each source that the kernel `name` can give, since Metal keeps compiled functions by their names."""
    parts = [f"custom_kernel_{name}"]
    parts += ["", *(value.replace("-", "_") for value in values)] if values else []
    parts += [_metal_type(array.dtype) + _passed_as(array) for array in inputs]
    return "_".join([*parts, *(_metal_type(dtype) for dtype in output_dtypes)])


def check_size(what: str, values: Sequence[object], names: Sequence[str]) -> None:
    """ValueError, which names `what`, when there is not one value for each name."""
    if len(values) != len(names):
        raise ValueError(f"Expected `{what}` to have size {len(names)} ({', '.join(names)}) but got size {len(values)}.")


def _parameters(definition: KernelDefinition, inputs: Sequence[mx.array]) -> list[Parameter]:
    parameters = []
    for index, (name, array) in enumerate(zip(definition.input_names, inputs, strict=True)):
        parameters.append(Parameter(name, "input", index))
        if array.ndim > 0:
            of_array = [Parameter(f"{name}_{kind}", kind, index) for kind in ("shape", "strides", "ndim")]
            parameters += [parameter for parameter in of_array if parameter.name in definition.source]
    parameters += [Parameter(name, "output", index) for index, name in enumerate(definition.output_names)]
    return parameters + [Parameter(name, "attribute", name) for name in ATTRIBUTES if name in definition.source]


def _declaration(
    parameter: Parameter, inputs: Sequence[mx.array], output_dtypes: Sequence[mx.Dtype], atomic_outputs: bool
) -> str:
    name = parameter.name
    match parameter.kind, parameter.of:
        case "input", int(index):
            space = "device" if inputs[index].size >= _SMALLEST_IN_DEVICE_MEMORY else "constant"
            return f"const {space} {_metal_type(inputs[index].dtype)}{'*' if inputs[index].ndim else '&'} {name}"
        case "output", int(index):
            metal_type = _metal_type(output_dtypes[index])
            return f"device {f'atomic<{metal_type}>' if atomic_outputs else metal_type}* {name}"
        case "shape", _:
            return f"const constant int* {name}"
        case "strides", _:
            return f"const constant int64_t* {name}"
        case "ndim", _:
            return f"const constant int& {name}"
        case _:
            return f"{ATTRIBUTES[name]} {name}"


def _binding(parameter: Parameter, index: int) -> str:
    """Attributes come last, so that the index of a parameter among all is its index among the buffers."""
    return parameter.name if parameter.kind == "attribute" else f"buffer({index})"


def _metal_type(dtype: mx.Dtype) -> str:
    if dtype not in METAL_TYPES:
        raise ValueError(f"{dtype} is not supported on the GPU.")
    return METAL_TYPES[dtype]


def _passed_as(array: mx.array) -> str:
    """What MLX adds to the function's name for an input that is not in device memory: (s)calar or (c)onstant."""
    if array.ndim == 0:
        return "s"
    return "c" if array.size < _SMALLEST_IN_DEVICE_MEMORY else ""


def _template_kind(value: mx.Dtype | int | bool) -> str:
    return "typename" if isinstance(value, mx.Dtype) else type(value).__name__


def _template_value(name: str, value: mx.Dtype | int | bool) -> str:
    if isinstance(value, mx.Dtype):
        return _metal_type(value)
    if type(value) in (int, bool) and value in _INT_RANGE:
        return str(int(value))
    raise ValueError(f"Invalid template argument {name}={value!r}. Must be `mlx.core.Dtype`, `int` (32 bits) or `bool`.")
