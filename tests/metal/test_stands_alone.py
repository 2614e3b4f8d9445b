"""metal_anywhere can be published by itself: it needs nothing of this repository, and does not speak of it."""

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "src/metal_anywhere"
MODULES = sorted(PACKAGE.rglob("*.py"))
NEEDS = {"metal_anywhere", "mlx", "numpy"}


def imported(module: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(module.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.partition(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield (node.module or "").partition(".")[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.name)
def test_it_imports_mlx_and_numpy_and_nothing_of_ours(module: Path) -> None:
    assert set(imported(module)) - set(sys.stdlib_module_names) <= NEEDS


def test_it_runs_where_there_is_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "metal_anywhere").symlink_to(PACKAGE)
    script = f"""
import sys
sys.path = [path for path in sys.path if not path.startswith({str(PACKAGE.parents[1])!r}) or "site-packages" in path]
sys.path.insert(0, {str(tmp_path)!r})
import mlx.core as mx
from metal_anywhere import cpu_runner, metal_kernel
kernel = metal_kernel("double", ["x"], ["y"], "y[thread_position_in_grid.x] = 2 * x[thread_position_in_grid.x];")
with cpu_runner():
    options = dict(grid=(3, 1, 1), threadgroup=(3, 1, 1), output_shapes=[(3,)], output_dtypes=[mx.float32])
    print(kernel(inputs=[mx.arange(3.0)], **options)[0].tolist(), [name for name in sys.modules if name.startswith("tiny_llm")])
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    if "NoCompiler" in done.stderr:
        pytest.skip("no C++ compiler")
    assert done.stdout == "[0.0, 2.0, 4.0] []\n", done.stderr


def test_it_does_not_speak_of_the_course() -> None:
    words = re.compile(r"tiny.?llm|\b(?:course|learner|chapter|week)s?\b", re.IGNORECASE)
    texts = (path for path in PACKAGE.rglob("*") if path.is_file() and path.suffix != ".pyc")
    found = {(path.name, word) for path in texts for word in words.findall(path.read_text("utf-8"))}
    assert not found


def test_its_names_are_those_it_lists() -> None:
    import metal_anywhere

    assert sorted(metal_anywhere.__all__) == metal_anywhere.__all__
    readme = (PACKAGE / "README.md").read_text("utf-8")
    missing = [name for name in metal_anywhere.__all__ if f"`{name}" not in readme]
    assert not missing, "the README explains each public name"
