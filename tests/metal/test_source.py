"""The text of a kernel and where it comes from."""

from pathlib import Path

import pytest

from metal_anywhere import read_metal


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
