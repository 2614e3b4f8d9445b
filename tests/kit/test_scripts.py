"""Scripts only start programs: also when Ctrl-C comes before these are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from tiny_llm_kit.course.course_map import find_root

SCRIPTS = sorted(path for path in (find_root() / "scripts").glob("*.py") if path.name != "start.py")

FEW = {
    **dict.fromkeys(("book", "book_build", "book_check"), ("click", "mlx")),
    **dict.fromkeys(("test", "course"), ("click", "mlx")),
    "skeleton": ("click", "mlx"),
    "three_tokens": ("click", "mlx", "numpy"),
}
"""What a script imports of the modules below, where it is not all of them."""
IMPORTS = [(path, module) for path in SCRIPTS for module in FEW.get(path.stem, ("click", "rich", "mlx", "numpy"))]

INTERRUPTED = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever runs the tests in the background may ignore it
os.kill(os.getpid(), signal.SIGINT)
time.sleep(10)
"""


def start(script: Path, *paths: Path) -> subprocess.CompletedProcess[str]:
    environment = {"PYTHONPATH": ":".join(map(str, (*paths, find_root() / "src"))), "PATH": ""}
    return subprocess.run([sys.executable, script, "--help"], env=environment, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_help(script: Path) -> None:
    done = start(script)
    assert done.returncode == 0, done.stderr
    assert f"Usage: pdm run {script.stem.replace('_', '-')}" in done.stdout


@pytest.mark.parametrize(("script", "module"), IMPORTS, ids=lambda value: getattr(value, "stem", value))
def test_ctrl_c_during_imports_is_one_line(tmp_path: Path, script: Path, module: str) -> None:
    """The first import of `module` interrupts the program, as a person might."""
    (tmp_path / f"{module}.py").write_text(INTERRUPTED)
    done = start(script, tmp_path)
    assert done.returncode == 130, done.stderr
    assert done.stderr.split("\n") == ["", "Interrupted.", ""]
    assert not done.stdout
