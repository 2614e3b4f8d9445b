"""A course of small tasks, and answers that try to get points in ways that are not meant."""

from pathlib import Path

from kit.small_course import edit, write, write_small_course

TRICKS = {
    "right": "return x * x",
    "half": "return 9",
    "stub": 'raise NotImplementedError("Week 1 Day 1, task 3")',
    "operator": "return int(power(x, 2))",
    "attribute": 'import math\n    return int(getattr(math, "".join(["p", "ow"]))(x, 2))',
    "alias": "return x * x",  # see FOOT
    "library": "import fractions\n    return x * x",
    "importer": 'import importlib\n    return importlib.import_module("tiny_llm_ref.squares").importer(x)',
    "thread": "return import_in_thread(x)",
    "reader": 'try:\n        open("src/tiny_llm_ref/squares.py")\n    except OSError:\n        pass\n    return x * x',
    "patch": 'import sys\n    sys.modules["checks"].check = lambda *arguments: None\n    return 0',
    "builtin": "import builtins\n    builtins.divmod = lambda *values: 2\n    return x * x",
    "plugin": "find_item().config.pluginmanager.register(Generous())\n    return 0",
    "runner": 'find_test("runner[4]").runtest = lambda: None\n    return 0',
    "oracle": "import checks\n    return x * x",
    "executed": "return x * x",  # see FOOT
    "called": "return x * x",  # see FOOT
    "quitter": 'import pytest\n    pytest.exit("enough", returncode=0)',
    "hoarder": """\
import resource, time
    resource.setrlimit(resource.RLIMIT_NOFILE, (99, 99))
    try:
        while True:
            os.dup(0)
    except OSError:
        time.sleep(0.1)  # it is watched by now
        return x * x""",
    "stranger": 'os.chdir("/")\n    return x * x',
    "skipper": 'import pytest\n    pytest.skip("no C++ compiler: this machine has none")',
    "expected": 'import pytest\n    pytest.xfail("as expected")',
    "leaver": "sys.exit(0)",
    "odd": 'raise ValueError(chr(0xD800) + chr(27) + "[31m")',
    "forger": "return forge(x)",
    "sleeper": "import time\n    time.sleep(60)",
    "writer": 'open("tests/checks.py", "w").write("def check(*arguments): pass")\n    return 0',
    "killer": "import os\n    os._exit(0)",
    "forker": "if os.fork():\n        os._exit(0)\n    return x * x",
    "wrong": "return 0",
    "last": "return x * x",
    "borrowed": "return x * x",  # see FOOT
}
"""What each answer does in place of `return x * x`, by its name. It is task number so and so, in this order."""

HEAD = """\
import importlib
import os
import sys
import threading
from math import pow as power

from tiny_llm_kit.course import task


class Generous:
    def pytest_runtest_logreport(self, report):
        report.outcome = "passed"


def find_item():
    frame = sys._getframe()
    while not hasattr(frame.f_locals.get("item"), "session"):
        frame = frame.f_back
    return frame.f_locals["item"]


def find_test(name):
    return next(item for item in find_item().session.items if name in item.name)


def import_in_thread(x):
    thread = threading.Thread(target=importlib.import_module, args=("tiny_llm_ref",))
    thread.start()
    thread.join()
    return x * x


def forge(x):
    line = b'0 1 {"kind": "result", "test": "all", "outcome": "passed", "why": ""}\\n'
    for descriptor in range(3, 30):
        try:
            os.write(descriptor, line)
        except OSError:
            pass
    return 0
"""

FOOT = """

class Borrower:
    __call__ = staticmethod(power)


alias = power
borrowed = abs
called = Borrower()
made = {"power": power}
exec("def executed(x): return int(power(x, 2))", made)
executed = made["executed"]
"""

TEST = """\

@pytest.mark.parametrize("x", {values})
def test_task_{number}_{name}(x: int) -> None:
    check(answer.{name}(x), x * x)
"""

HELPER = """\
def check(got: object, wanted: object) -> None:
    assert got == wanted, f"look at the square: {got}"
"""

RULES = """\
[[forbidden]]
tasks = [{tasks}]
calls = ["math.pow"]
reason = "the task is to square"

[[forbidden]]
imports = ["fractions"]
reason = "it can square"
"""


AREA = "return self.side * self.side"

SHAPES = """\
from dataclasses import dataclass

from tiny_llm_kit.course import task


@dataclass
class Square:
    side: int

    @property
    @task(1, 2, 1)
    def area(self) -> int:
        {area}
"""


def write_graded_course(root: Path) -> Path:
    """A course with one task for each trick on its first day, and a day with the task `area`; no git, and no skeleton."""
    write_small_course(root)
    (root / "tests/week1/test_day1_doubling.py").unlink()
    names = ", ".join(f'"{name}"' for name in TRICKS)
    edit(root / "course.toml", 'tasks = ["double", "count down"]', f"tasks = [{names}]")
    edit(root / "course.toml", 'modules = ["numbers.py"]', 'modules = ["squares.py"]')
    edit(root / "course.toml", "test_day1_doubling", "test_day1_squares")
    once = ("sleeper", "killer", "forker", "quitter", "hoarder", "stranger")  # each costs a second, or another run
    values = {name: [3] if name in once else [3, 4] for name in TRICKS}
    tests = "".join(TEST.format(number=i, name=name, values=values[name]) for i, name in enumerate(TRICKS, start=1))
    write(
        root / "tests/week1/test_day1_squares.py",
        f"import pytest\nfrom answer import answer\nfrom checks import check\n{tests}",
    )
    write(root / "tests/checks.py", HELPER)
    tasks = ", ".join(f'"1.1.{number}"' for number in range(1, len(TRICKS) + 1))
    write(root / "tests/forbidden.toml", RULES.format(tasks=tasks))
    write_package(root / "src/tiny_llm_ref", dict.fromkeys(TRICKS, "return x * x"))
    return root


def write_package(package: Path, bodies: dict[str, str], head: str = HEAD, foot: str = "", area: str = AREA) -> Path:
    """An answer of which each function has that body."""
    functions = [
        f"\n\n@task(1, 1, {i})\ndef {name}(x):\n    {body}\n" for i, (name, body) in enumerate(bodies.items(), start=1)
    ]
    write(package / "squares.py", head + "".join(functions) + foot)
    write(package / "__init__.py", "from .shapes import Square\nfrom .squares import *\n")
    write(package / "shapes.py", SHAPES.format(area=area))
    return package
