"""The text around a kernel's body is what MLX itself generates, and bad arguments are refused as MLX refuses them."""

import json
import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import mlx.core as mx
import pytest

from metal.print_signatures import template_value
from metal_anywhere.signature import ATTRIBUTES, METAL_TYPES, Signature, generate
from metal_anywhere.source import KernelDefinition

DTYPES = [name for name, value in vars(mx).items() if isinstance(value, mx.Dtype) and value in METAL_TYPES]


def case(
    name: str,
    source: str = "o0[0] = 1;",
    inputs: list[tuple[tuple[int, ...], str]] | None = None,
    output_dtypes: tuple[str, ...] = ("float32",),
    template: list[tuple[str, str | int | bool]] | None = None,
    header: str = "",
    atomic_outputs: bool = False,
) -> dict[str, Any]:
    """A kernel with inputs x0, x1, ... of these shapes and dtypes and outputs o0, o1, ..., in a form that JSON can hold."""
    inputs = inputs or []
    kernel = {
        "name": name,
        "input_names": [f"x{i}" for i in range(len(inputs))],
        "output_names": [f"o{i}" for i in range(len(output_dtypes))],
        "source": source,
        "header": header,
        "atomic_outputs": atomic_outputs,
    }
    return {"kernel": kernel, "inputs": inputs, "output_dtypes": output_dtypes, "template": template or []}


CASES = [
    *(case(f"dtype_{dtype}", inputs=[((3, 4), dtype)], output_dtypes=(dtype,), template=[("T", dtype)]) for dtype in DTYPES),
    case("no_inputs"),
    case("template", template=[("T", "bfloat16"), ("D", 64), ("CAUSAL", True), ("SHIFT", -3), ("SINK", False)]),
    case("sizes", inputs=[((), "float32"), ((1,), "int32"), ((7,), "float16"), ((8,), "uint8"), ((2, 3, 4), "bool_")]),
    case("empty", inputs=[((0, 3), "float32")]),
    case(
        "shapes",
        "o0[0] = x0_shape[0] + x0_strides[1] * x0_ndim + x1_ndim + x2_shape[0] + x3_strides[0];",
        inputs=[((3, 4), "float32"), ((2,), "float32"), ((), "float32"), ((9,), "float32")],
    ),
    *(case(attribute, f"o0[0] = {attribute}{'.x' * (kind == 'uint3')};") for attribute, kind in ATTRIBUTES.items()),
    case("attributes", " ".join(ATTRIBUTES), inputs=[((8,), "float32")]),
    case("part_of_a_name", "int my_thread_position_in_grid_too = max_x0_shape;", inputs=[((8,), "float32")]),
    case("outputs", inputs=[((8,), "float32")], output_dtypes=("float32", "int32", "bool_")),
    case("outputs_and_attribute", "o1[0] = x0_shape[thread_position_in_grid.x];", [((8,), "int32")], ("int32", "int32")),
    case("atomic", output_dtypes=("float32", "uint32"), atomic_outputs=True),
    case("header", "\n  // one\n  o0[0] = f(1);\n", header="float f(float x) { return x; }\n"),
    case("header_without_an_end_of_line", header="struct s {};", template=[("N", 2)]),
]


@cache
def printed_by_mlx() -> dict[str, str]:
    """The sources that MLX prints for all cases, by kernel; one process, since MLX prints past Python's sys.stdout."""
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("print_signatures.py")],
        input=json.dumps(CASES),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return dict(re.findall(r"Generated source code for `(\w+)`:\n```\n(.*?)\n```\n", done.stdout, re.DOTALL))


def signature(case: dict[str, Any], **changes: Any) -> Signature:
    arguments = {
        "definition": KernelDefinition(**case["kernel"]),
        "inputs": [mx.zeros(shape, getattr(mx, dtype), stream=mx.cpu) for shape, dtype in case["inputs"]],
        "output_dtypes": [getattr(mx, dtype) for dtype in case["output_dtypes"]],
        "template": [(name, template_value(value)) for name, value in case["template"]],
    }
    return generate(**arguments | changes)


def test_every_dtype_that_runs_on_a_gpu_has_a_metal_type() -> None:
    assert set(METAL_TYPES) == {value for value in vars(mx).values() if isinstance(value, mx.Dtype)} - {mx.float64}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["kernel"]["name"])
def test_the_text_is_what_mlx_generates(case: dict[str, Any]) -> None:
    name = case["kernel"]["name"]
    assert name in printed_by_mlx(), f"MLX printed no source for {name}"
    assert signature(case).text == printed_by_mlx()[name]


def test_the_parts_and_parameters_are_told_apart() -> None:
    found = signature(
        case(
            "parts",
            "o0[thread_position_in_grid.x] = x1 + x0_strides[0] * x0_shape[0] * x0_ndim;",
            inputs=[((8,), "float32"), ((), "float32")],
            template=[("T", "float32"), ("D", 4)],
            header="// above\n",
        )
    )
    assert found.header == "// above\n"
    assert found.head.startswith("template <typename T, int D>\n[[kernel]] void custom_kernel_parts_")
    assert found.head.endswith(") {\n")
    assert found.body.startswith("o0[")
    assert f"decltype({found.function}{found.template_arguments})" in found.tail
    assert found.template_arguments == "<float, 4>"
    assert [(parameter.name, parameter.kind, parameter.of) for parameter in found.parameters] == [
        ("x0", "input", 0),
        ("x0_shape", "shape", 0),
        ("x0_strides", "strides", 0),
        ("x0_ndim", "ndim", 0),
        ("x1", "input", 1),
        ("o0", "output", 0),
        ("thread_position_in_grid", "attribute", "thread_position_in_grid"),
    ]


def test_a_kernel_without_a_template_has_no_template_arguments() -> None:
    found = signature(case("plain"))
    assert found.template_arguments == ""
    assert found.tail == "\n}\n"


def test_several_outputs_need_no_attribute() -> None:
    # MLX 0.32 ends the list of parameters too early here, and Metal refuses what it writes.
    found = signature(case("shape_only", "o1[0] = x0_shape[0];", [((8,), "float32")], ("float32", "int32")))
    assert found.head.endswith("* o0 [[buffer(2)]],\n  device int32_t* o1 [[buffer(3)]]) {\n")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"inputs": []}, r"`inputs` to have size 1 \(x0\) but got size 0"),
        ({"inputs": [mx.zeros(2)] * 2}, r"`inputs` to have size 1 \(x0\) but got size 2"),
        ({"output_dtypes": []}, r"`output_dtypes` to have size 1 \(o0\) but got size 0"),
        ({"template": [("T", "float")]}, "Invalid template argument T='float'"),
        ({"template": [("S", 0.5)]}, "Invalid template argument S=0.5"),
        ({"template": [("N", 2**31)]}, "Invalid template argument N=2147483648"),
        ({"output_dtypes": [mx.float64]}, "float64 is not supported on the GPU"),
        ({"template": [("T", mx.float64)]}, "float64 is not supported on the GPU"),
        ({"template": [("N", None)]}, "Invalid template argument N=None"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        signature(case("refused", inputs=[((8,), "float32")]), **changes)
