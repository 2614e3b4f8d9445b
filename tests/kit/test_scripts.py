"""Scripts only start programs: also when Ctrl-C comes before these are loaded."""

import subprocess
import sys
from pathlib import Path

import pytest

from tiny_llm_kit.course.course_map import find_root

SCRIPTS = sorted(path for path in (find_root() / "scripts").glob("*.py") if path.name != "start.py")

MODULES = ("click", "rich", "mlx", "numpy")
"""All of these are slow to import, and a program may be interrupted in any of them."""

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


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_ctrl_c_during_the_first_import_is_one_line(tmp_path: Path, script: Path) -> None:
    assert_interrupted(script, tmp_path, *MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_ctrl_c_during_any_import_is_one_line(tmp_path: Path, module: str) -> None:
    assert_interrupted(find_root() / "scripts/bench.py", tmp_path, module)


def assert_interrupted(script: Path, folder: Path, *modules: str) -> None:
    """The first import of any of `modules` interrupts the program, as a person might."""
    for module in modules:
        (folder / f"{module}.py").write_text(INTERRUPTED)
    done = start(script, folder)
    assert done.returncode == 130, done.stderr
    assert done.stderr.split("\n") == ["", "Interrupted.", ""]
    assert not done.stdout
