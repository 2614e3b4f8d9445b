"""The last outcome of each test, in `.course/results.json`, with a fingerprint of what was tested: so old results show as old.

    {"tiny_llm": {"1.1": {"2": {"fingerprint": "…", "at": "…", "tests": {"tests/…::test_task_2_…": "passed"}}}}}

by package, day and number of the task ("0" for tests that belong to none).
"""

import ast
import hashlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from tiny_llm_kit.course.course_map import Course, Day, task_number
from tiny_llm_kit.course.guided_run import Run
from tiny_llm_kit.course.state_file import read_state, write_state

FILE = "results.json"


class Results:
    """What is remembered of one package. `warn` is told when the file is damaged, or cannot be written."""

    def __init__(self, root: Path, course: Course, package: str, warn: Callable[[str], None]) -> None:
        self.root, self.course, self.package, self.warn = root, course, package, warn
        self.table = read_state(root, FILE, warn)
        self.fingerprint = cache(lambda day: fingerprint(root, course, day, package))

    def outcomes(self, day: Day, number: int) -> tuple[dict[str, str], bool]:
        """The outcomes of a task's tests ({} if they never ran), and whether they are those of the package as it is now."""
        entry = _get(self.table, self.package, f"{day.week}.{day.number}", str(number))
        tests = _get(entry, "tests")
        return dict(tests), bool(tests) and entry.get("fingerprint") == self.fingerprint(day)

    def record(self, day: Day, run: Run, fingerprint: str) -> None:
        """Keeps what came out for the tasks that ran to their end or failed. `fingerprint`: as it was before the run."""
        outcomes: dict[int, dict[str, str]] = {}
        for test in run.tests:
            if (test.split("::")[0] + "/").startswith(f"{str(day.tests).rstrip('/')}/"):
                ended = run.results.get(test)
                outcomes.setdefault(task_number(test), {})[test] = ended.outcome if ended else "not run"
        now = datetime.now(UTC).isoformat(timespec="seconds")
        table = read_state(self.root, FILE, self.warn)  # another command may have written meanwhile
        tasks = _made(table, self.package, f"{day.week}.{day.number}")
        for number, tests in outcomes.items():
            if "not run" in tests.values() and not {"failed", "error"} & set(tests.values()):
                continue
            tasks[str(number)] = {"fingerprint": fingerprint, "at": now, "tests": tests}
        self.table = table
        write_state(self.root, FILE, table, self.warn)


def _get(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    """A table in a table; {} where there is none, or something else, as in a file that was edited by hand."""
    for key in keys:
        inner = table.get(key)
        table = inner if isinstance(inner, dict) else {}
    return table


def _made(table: dict[str, Any], *keys: str) -> dict[str, Any]:
    for key in keys:
        if not isinstance(table.get(key), dict):
            table[key] = {}
        table = table[key]
    return table


def fingerprint(root: Path, course: Course, day: Day, package: str) -> str:
    """A hash of all that decides how the day's tests end: its modules, those that they import or that earlier days wrote, which
    it needs, and the tests."""
    folder = root / "src" / package
    modules = {module for needed in _with_needs(course, day) for module in needed.modules}
    tests = root / str(day.tests)
    files = [*_closure(folder, modules), *([tests] if tests.is_file() else sorted(tests.rglob("*.py")))]
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.relative_to(root).as_posix().encode() + b"\0")
        digest.update((_content(path) or b"") + b"\0")
    return digest.hexdigest()[:16]


def _with_needs(course: Course, day: Day) -> list[Day]:
    found = [day]
    for current in found:
        found += [needed for key in current.needs if (needed := course.find_day(*key)) not in found]
    return found


def _closure(folder: Path, modules: Iterable[str]) -> list[Path]:
    """The files, and all of the package that these import; with a Python file in a folder of kernels, all of its kernels."""
    left, found = [folder / module for module in modules], set()
    while left:
        path = left.pop()
        if path in found or not path.is_file():
            continue
        found.add(path)
        if path.suffix == ".py":
            left += [*_imports(path, folder), *path.parent.glob("*.metal")]
    return sorted(found)


def _imports(path: Path, folder: Path) -> list[Path]:
    try:
        tree = ast.parse(_content(path) or b"")
    except (SyntaxError, ValueError):  # it imports nothing then
        return []
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.parents[node.level - 1].joinpath(*(node.module or "").split("."))
            candidates = [base.with_suffix(".py"), *(base / f"{name.name}.py" for name in node.names)]
            found += [candidate for candidate in candidates if candidate.is_relative_to(folder)]
    return found


@cache
def _read(path: Path, changed: float, size: int) -> bytes:
    return path.read_bytes()


def _content(path: Path) -> bytes | None:
    """The bytes of a file; None if it cannot be read. Several days read the same files."""
    try:
        status = path.stat()
        return _read(path, status.st_mtime_ns, status.st_size)
    except OSError:
        return None
