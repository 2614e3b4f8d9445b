"""The small course with hints and a skeleton, and the guide run in it."""

import functools
import tempfile
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kit.small_course import edit, write_small_course
from tiny_llm_kit.cli.course import main
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.skeleton import generate
from tiny_llm_kit.course.skeleton import write as write_skeleton

TESTS = "tests/week1/test_day1_doubling.py"
NUMBERS = "src/tiny_llm/numbers.py"
HINTS = 'hints.1 = ["Add it.", "Add it to itself.", "return x + x"]'
DOUBLE_STUB = 'raise NotImplementedError("Week 1 Day 1, task 1: double. Read book/src/doubling.md")'
COUNT_STUB = 'raise NotImplementedError("Week 1 Day 1, task 2: count down. Read book/src/doubling.md")'
COUNT_ANSWER = "while start > 0:\n        yield start\n        start -= 1"


def write_guided_course(root: Path) -> Path:
    for path, content in _files().items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


@functools.cache
def _files() -> dict[Path, bytes]:
    """All of the course; making the skeleton takes longer than most tests."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_small_course(Path(folder))
        tasks = 'tasks = ["double", "count down"]'
        edit(root / "course.toml", tasks, f"{tasks}\n  {HINTS}")
        write_skeleton(root, generate(root, load_course(root)))
        return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def guide(root: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str, charset: str = "utf-8") -> Result:
    """`pdm run course …` in the course at `root`, in a terminal of 80 columns."""
    monkeypatch.setattr("tiny_llm_kit.cli.course.opened.find_root", lambda: root)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")  # each start is faster
    return CliRunner(charset=charset).invoke(main, [*arguments])


def answer_double(root: Path, body: str = "return 2 * x") -> None:
    edit(root / NUMBERS, DOUBLE_STUB, body)
