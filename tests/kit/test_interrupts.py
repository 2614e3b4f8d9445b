"""Ctrl-C while a program is still importing: wherever it comes, it ends the program with one line and no traceback."""

import os
import subprocess
import sys

import pytest

from tiny_llm_kit.course.course_map import find_root

ROOT = find_root()
PROGRAMS = [path.name for path in sorted((ROOT / "scripts").glob("*.py"))] + ["test", "check", "skeleton"]

# Runs a program in which the import of one module is interrupted.
RUN = """
import runpy, sys
class Interrupt:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == module:
            raise KeyboardInterrupt
module, program = sys.argv[1:]
sys.meta_path.insert(0, Interrupt)
sys.argv = [program, "--help"]
if program.endswith(".py"):
    sys.path.insert(0, "scripts")
    runpy.run_path("scripts/" + program, run_name="__main__")
else:
    runpy.run_module("tiny_llm_kit.cli." + program, run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("module", ["mlx.core", "click", "tiny_llm_kit.cli.errors"])
def test_an_interrupt_while_importing_is_one_line(program: str, module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RUN, module, program],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT / "src")},
        capture_output=True,
        text=True,
    )
    if "Usage:" in done.stdout:
        pytest.skip(f"{program} does not import {module}")
    assert done.returncode in (1, 130, -2), f"exit code {done.returncode}: neither click's nor that of an interrupt"
    assert done.stderr == "Aborted!\n"
