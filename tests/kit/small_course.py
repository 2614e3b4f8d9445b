"""A course of two days that tests can build in a folder of their own, with the real commands in it."""

import contextlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.skeleton import generate
from tiny_llm_kit.course.skeleton import write as write_skeleton

COURSE = """\
[[week]]
number = 1
title = "Numbers"

  [[week.day]]
  number = 1
  title = "Doubling"
  chapter = "book/src/doubling.md"
  tests = "tests/week1/test_day1_doubling.py"
  modules = ["numbers.py"]
  tasks = ["double", "count down"]

  [[week.day]]
  number = 2
  title = "Shapes"
  chapter = "book/src/shapes.md"
  tests = "tests/week1/day2_shapes"
  modules = ["shapes.py"]
  tasks = ["the \\"area\\""]

[[week]]
number = 2
title = "Far away"

  [[week.day]]
  number = 6
  title = "Batching"
"""

NUMBERS = '''\
"""Numbers."""

from collections.abc import Iterator

from tiny_llm_kit.course import task


@task(1, 1, 1)
def double(x: int) -> int:
    """Twice `x`."""
    # the secret
    return 2 * x


@task(week=1, day=1, number=2)
def count_down(start: int) -> Iterator[int]:
    while start > 0:
        yield start
        start -= 1


# Given: nobody has to write this.
def half(x: int) -> int:
    return x // 2
'''

SHAPES = '''\
from dataclasses import dataclass

from tiny_llm_kit.course import task

from .numbers import double


@dataclass
class Square:
    side: int

    @property
    @task(1, 2, 1)
    def area(self) -> int:
        """In square metres."""
        return self.side * double(self.side) // 2
'''

DOUBLE = """\
// Given: one thread an element.
uint i = thread_position_in_grid.x;
if (i < n) {
    // @task(week=1, day=1, number=1)
    y[i] = 2 * x[i];  // the secret
    // @end
}
"""

TEST_NUMBERS = """\
from answer import answer


def test_task_1_doubles():
    assert answer.double(4) == 8, "look at double"


def test_task_2_counts():
    assert list(answer.count_down(3)) == [3, 2, 1], "look at the order"
"""

TEST_SHAPES = """\
from answer import answer


def test_task_1_area():
    assert answer.Square(3).area == 9
"""

WAITING_TEST = """\
import os, pathlib, signal, subprocess, sys, time


def wait():
    signal.signal(signal.SIGTERM, signal.SIG_IGN if {stubborn} else signal.SIG_DFL)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    pathlib.Path("processes", f"{{os.getpid()}} {{child.pid}}").touch()
    time.sleep(60)


def test_task_1_waits():
    wait()


def test_task_2_waits():
    wait()
"""

MISTAKES = """\
[[mistake]]
name = "one too many"
week = 1
day = 1
task = 1
file = "numbers.py"
find = "2 * x"
replace = "2 * x + 1"

[[mistake]]
name = "steps of two"
week = 1
day = 1
task = 2
edits = [{ file = "numbers.py", find = "start -= 1", replace = "start -= 2" }]
"""

VARIANT = """\
week = 1
day = 1
says = "Adds instead of multiplying."
"""

OTHER_NUMBERS = '''\
"""Other numbers."""

from tiny_llm_kit.course import task


@task(1, 1, 1)
def double(x: int) -> int:
    """Twice `x`."""
    return x + x
'''

CHAPTER = """\
# Week 1 Day {day}: {title}

    pdm run test --week 1 --day {day} -k task_1

## Predict before you code

1. What is twice two?

<details>
<summary>Answers</summary>

1. Four.

</details>

{tasks}
"""

BOOK = """\
[book]
title = "Numbers"

[build]
create-missing = false

[preprocessor.tiny-llm]
command = "python -m tiny_llm_kit.book.preprocessor"
"""

PYPROJECT = """\
[tool.pdm.scripts]
test = { cmd = "python scripts/test.py" }

[tool.pytest.ini_options]
addopts = "--import-mode=importlib -p no:schemathesis"
pythonpath = ["src", "tests"]

[tool.ruff]
line-length = 120
exclude = [  # held to this project's own rules
  "src/metal_anywhere", "src/tiny_llm_kit", "tests/answer.py", "tests/conftest.py", "tests/endless.py", "tests/reasons.py",
]

[tool.ruff.lint]
select = ["E", "F"]
per-file-ignores = { "src/tiny_llm/*" = ["F401"] }

[tool.mypy]
files = ["src/tiny_llm_ref"]
mypy_path = "src"
"""

FILES = {
    "course.toml": COURSE,
    "pyproject.toml": PYPROJECT,
    "README.md": "# Numbers\n",
    "book/book.toml": BOOK,
    "book/src/SUMMARY.md": "# Summary\n\n- [Doubling](doubling.md)\n- [Shapes](shapes.md)\n",
    "book/src/doubling.md": CHAPTER.format(
        day=1, title="Doubling", tasks="### Task 1: double\n\n`double`\n\n### Task 2: count down\n\n`count_down`"
    ),
    "book/src/shapes.md": CHAPTER.format(day=2, title="Shapes", tasks="### Task 1: the area\n\n`area`"),
    "src/tiny_llm_ref/__init__.py": "from .numbers import count_down as count_down\n"
    "from .numbers import double as double\nfrom .shapes import Square as Square\n",
    "src/tiny_llm_ref/numbers.py": NUMBERS,
    "src/tiny_llm_ref/shapes.py": SHAPES,
    "src/tiny_llm_ref/kernels/double.metal": DOUBLE,
    "src/tiny_llm_kit/__init__.py": "",
    "src/metal_anywhere/__init__.py": "",
    "tests/week1/test_day1_doubling.py": TEST_NUMBERS,
    "tests/week1/day2_shapes/test_area.py": TEST_SHAPES,
    "tests/variants/adds/variant.toml": VARIANT,
    "tests/variants/adds/numbers.py": OTHER_NUMBERS,
    "tests/mistakes/numbers.toml": MISTAKES,
    "tests/kit/test_kit.py": "def test_kit():\n    assert 1 + 1 == 2\n",
    "tests/metal/test_metal.py": "def test_metal():\n    assert 2 + 2 == 4\n",
}
MACHINERY = (
    "src/tiny_llm_kit/book/*.py",
    "src/tiny_llm_kit/course/*.py",
    "src/tiny_llm_kit/course/grading/*.py",
    "src/metal_anywhere/errors.py",
    "src/metal_anywhere/source.py",
    "src/tiny_llm_kit/cli/*.py",
    "tests/answer.py",
    "tests/conftest.py",
    "tests/endless.py",
    "tests/reasons.py",
)


def write_small_course(root: Path) -> Path:
    """Writes the course, with this project's own runner and checks in it, to the empty folder `root`."""
    for name, text in FILES.items():
        write(root / name, text)
    project = find_root()
    for pattern in MACHINERY:
        for path in project.glob(pattern):
            write(root / path.relative_to(project), path.read_text())
    return root


def write_checked_course(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The course at `root` with its skeleton, as the one that `pdm run check` checks until the end of the test."""
    monkeypatch.setattr("tiny_llm_kit.cli.check.find_root", lambda: root)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    write_small_course(root)
    write_skeleton(root, generate(root, load_course(root)))
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def edit(path: Path, find: str, replace: str) -> None:
    assert find in path.read_text(), f"{path} does not hold {find!r}"
    path.write_text(path.read_text().replace(find, replace))


@contextlib.contextmanager
def start_command(root: Path, command: str, *arguments: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    """Starts `pdm run command`, without pdm, in the course at `root`, in a terminal that is too narrow for comfort."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "TINY_LLM_SOLUTION")}
    environment |= {"PYTHONPATH": str(root / "src"), "COLUMNS": "60", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", f"tiny_llm_kit.cli.{command}", *arguments],
        cwd=cwd or root,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()  # if it has not ended


def run_command(root: Path, command: str, *arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The same, to its end."""
    with start_command(root, command, *arguments, cwd=cwd) as process:
        output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end, "nothing came of it within 30 s"
        time.sleep(0.05)


def is_gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def run_git(root: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run([str(shutil.which("git")), *identity, *arguments], cwd=root, check=True, capture_output=True)
