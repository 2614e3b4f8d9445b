"""Run as a program: has MLX print the source that it generates for each kernel of the list on standard input (JSON).

Without a GPU, MLX cannot call a Metal kernel, but it can trace one into an exported function, and prints its source then.
"""

import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx


def template_value(value: str | int | bool) -> mx.Dtype | int | bool:
    return getattr(mx, value) if isinstance(value, str) else value


def trace(case: dict[str, Any], *inputs: mx.array) -> list[mx.array]:
    kernel = mx.fast.metal_kernel(**case["kernel"])
    return kernel(
        inputs=list(inputs),
        template=[(name, template_value(value)) for name, value in case["template"]] or None,
        grid=(1, 1, 1),
        threadgroup=(1, 1, 1),
        output_shapes=[(4,)] * len(case["output_dtypes"]),
        output_dtypes=[getattr(mx, dtype) for dtype in case["output_dtypes"]],
        verbose=True,
    )


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for case in json.load(sys.stdin):
            arrays = [mx.zeros(shape, getattr(mx, dtype), stream=mx.cpu) for shape, dtype in case["inputs"]]
            function = partial(trace, case)
            mx.export_function(str(Path(folder) / "kernel.mlxfn"), function, *arrays)


if __name__ == "__main__":
    main()
