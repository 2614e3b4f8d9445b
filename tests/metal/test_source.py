"""The text of a kernel and where it comes from."""

from pathlib import Path

import mlx.core as mx
import pytest

from metal_anywhere import cpu_runner, metal_kernel, read_metal
from metal_anywhere.source import find_stub, stub_line


def test_a_kernel_is_its_text_and_knows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "copy.metal"
    path.write_text("y[0] = x[0];  // µ\n", encoding="utf-8")
    source = read_metal(path)
    assert source == "y[0] = x[0];  // µ\n"
    assert source.path == path


def test_what_is_no_kernel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no .*gone\.metal"):
        read_metal(tmp_path / "gone.metal")
    with pytest.raises(ValueError, match=r"kernel\.py is not a \.metal file"):
        read_metal(tmp_path / "kernel.py")
    (tmp_path / "binary.metal").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match=r"binary\.metal is not UTF-8 text"):
        read_metal(tmp_path / "binary.metal")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('#error "to do: the sum"\n', "to do: the sum"),
        ("y[0] = 1;\n  #  error not yet\n", "not yet"),
        ('#ifdef A\n#error "A"\n#else\n#endif\n#error "B"', "B"),
        ('#if A\n#if B\n#error "AB"\n#endif\n#error "A"\n#endif\n', None),
        ('/*\n#error "in a comment"\n*/ y[0] = 1;', None),
        (stub_line('say "why" in C:\\x'), 'say "why" in C:\\x'),
    ],
)
def test_an_error_outside_of_any_condition_is_a_stub(text: str, message: str | None) -> None:
    assert find_stub(text) == message


def test_a_stub_is_said_to_be_one_before_a_compiler_is_looked_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    kernel = metal_kernel("later", ["x"], ["y"], '#error "later: the product"\n')
    call = {"grid": (1, 1, 1), "threadgroup": (1, 1, 1), "output_shapes": [(1,)], "output_dtypes": [mx.float32]}
    with cpu_runner(), pytest.raises(NotImplementedError, match=r"^later: the product$"):
        kernel(inputs=[mx.ones(1)], **call)
