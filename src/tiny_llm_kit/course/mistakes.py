"""Known wrong answers: small edits of the reference, each of which the tests of its day have to catch.

They lie in `tests/mistakes/*.toml`, as lists of `[[mistake]]` with a `name`, the numbers `week`, `day` and `task`, the
fields of one `Edit` or a list `edits` of several, and `hangs = true` where the wrong answer may never end.
"""

import shutil
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.course.course_map import REFERENCE, Course, Task
from tiny_llm_kit.course.suite import SuiteRun, run_suites

PACKAGE = "tiny_llm_mistake"
SECONDS = 120


@dataclass(frozen=True)
class Edit:
    """Replaces `find`, which `file` (a path from the root of the package) holds exactly `count` times."""

    file: str
    find: str
    replace: str
    count: int = 1


@dataclass(frozen=True)
class Mistake:
    """A wrong answer to `task`. `hangs` says that a suite which does not end has caught it too."""

    name: str
    task: Task
    edits: tuple[Edit, ...]
    hangs: bool = False

    def __str__(self) -> str:
        return f"{self.name} (week {self.task.week} day {self.task.day}, task {self.task.number})"


@dataclass(frozen=True)
class Verdict:
    """`detail` says which test caught the mistake, or why none did. `caught` is None where the tests lacked a compiler."""

    mistake: Mistake
    caught: bool | None
    detail: str


def load_mistakes(root: Path, course: Course) -> list[Mistake]:
    """All mistakes in `root/tests/mistakes`; ValueError names the file and the entry that is wrong."""
    mistakes = []
    for path in sorted((root / "tests/mistakes").glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8")).get("mistake", [])
            mistakes += [_mistake(entry, course) for entry in entries]
        except ValueError as error:
            raise ValueError(f"{path.relative_to(root)}: {error}") from None
    return mistakes


def _mistake(entry: dict[str, Any], course: Course) -> Mistake:
    fields = dict(entry)
    try:
        name, numbers = fields.pop("name"), [fields.pop(key) for key in ("week", "day", "task")]
        hangs = fields.pop("hangs", False)
        edits = fields.pop("edits") if "edits" in fields else [fields]
        mistake = Mistake(name, course.find_task(*numbers), tuple(Edit(**edit) for edit in edits), hangs)
    except (KeyError, TypeError, ValueError) as error:
        reason = f"lacks {error}" if isinstance(error, KeyError) else error
        raise ValueError(f"mistake {entry.get('name', entry)!r}: {reason}") from None
    if "edits" in entry and fields:
        raise ValueError(f"mistake {name!r} has both `edits` and {', '.join(fields)}")
    if course.find_day(mistake.task.week, mistake.task.day).planned:
        raise ValueError(f"mistake {name!r}: its day has no tests yet")
    return mistake


def run_mistake(root: Path, course: Course, mistake: Mistake, seconds: float = SECONDS) -> Verdict:
    """Runs the suite of the mistake's day on a copy of the reference that makes the mistake, for so many seconds at most."""
    day = course.find_day(mistake.task.week, mistake.task.day)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / PACKAGE
        shutil.copytree(root / "src" / REFERENCE, package, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            for edit in mistake.edits:
                _apply(edit, package)
        except ValueError as error:
            return Verdict(mistake, False, f"stale: {error}")
        # The tests of the task itself know best, and are few: the rest of the day follows when they let it pass.
        first = ["--first", f"task_{mistake.task.number}_"]
        run = run_suites(root, [str(day.tests)], PACKAGE, "-x", "-q", *first, python_path=Path(folder), timeout=seconds)
    return _judge(mistake, run, seconds)


def _apply(edit: Edit, package: Path) -> None:
    path = package / edit.file
    if not path.is_file():
        raise ValueError(f"the reference has no {edit.file}")
    text = path.read_text(encoding="utf-8")
    if text.count(edit.find) != edit.count:
        raise ValueError(f"{edit.file} holds {edit.find!r} {text.count(edit.find)} times, not {edit.count}")
    path.write_text(text.replace(edit.find, edit.replace), encoding="utf-8")


def _judge(mistake: Mistake, run: SuiteRun, seconds: float) -> Verdict:
    bad = [result.name for result in run.results if result.outcome in ("failed", "error")]
    match run.exit_code:
        case 1 if bad:
            return Verdict(mistake, True, f"caught by {bad[0]}")
        case None:
            return Verdict(mistake, mistake.hangs, f"hang: the suite had not ended after {seconds:g} s")
        case 0 if any(result.lacked_compiler for result in run.results):
            return Verdict(mistake, None, f"not judged, since tests were skipped:\n{run.describe_skipped()}")
        case 0:
            return Verdict(mistake, False, "not caught: every test passed")
        case code:
            return Verdict(mistake, False, f"the suite could not run (exit code {code}):\n{run.output}")
