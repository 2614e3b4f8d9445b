"""Known wrong answers: small edits of the reference, each of which the tests of its day have to catch.

They are in `tests/mistakes/*.toml`, as lists of `[[mistake]]` with a `name`, the numbers `week`, `day` and `task`, and the
fields of one `Edit` or a list `edits` of several. A mistake is caught when a test of its own task fails, since a learner who
makes it should be told where to look; other tests of the day, and those with the real model, are not run.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tiny_llm_kit.course.altered import Edit, check_syntax, copied_reference, describe_bad_entry
from tiny_llm_kit.course.course_map import Course, Task
from tiny_llm_kit.course.suite import IN_VAIN, JUST_WHICH, QUICK, SuiteRun, files_that_test, run_suites

PACKAGE = "tiny_llm_mistake"
SECONDS = 300


@dataclass(frozen=True)
class Mistake:
    """A wrong answer to `task`."""

    name: str
    task: Task
    edits: tuple[Edit, ...]

    def __str__(self) -> str:
        return f"{self.name} (week {self.task.week} day {self.task.day}, task {self.task.number})"


@dataclass(frozen=True)
class Verdict:
    """`detail` says which test caught the mistake, or why none did. `caught` is None where the tests lacked a compiler.

    `catcher`: the test that caught it, as pytest names it, or "".
    """

    mistake: Mistake
    caught: bool | None
    detail: str
    catcher: str = ""


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
        edits = fields.pop("edits") if "edits" in fields else [fields]
        mistake = Mistake(name, course.find_task(*numbers), tuple(Edit(**edit) for edit in edits))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"mistake {entry.get('name', entry)!r}: {describe_bad_entry(error)}") from None
    if "edits" in entry and fields:
        raise ValueError(f"mistake {name!r} has both `edits` and {', '.join(fields)}")
    if course.find_day(mistake.task.week, mistake.task.day).planned:
        raise ValueError(f"mistake {name!r}: its day has no tests yet")
    return mistake


def run_mistake(root: Path, course: Course, mistake: Mistake, catcher: str = "", seconds: float = SECONDS) -> Verdict:
    """Runs the tests of its task on a copy of the reference that makes the mistake, for at most this many seconds.

    `catcher`, if it is one of them, is run before the others, which are skipped if it fails.
    """
    day = course.find_day(mistake.task.week, mistake.task.day)
    with copied_reference(root, PACKAGE) as package:
        try:
            for edit in mistake.edits:
                edit.apply(package)
            for edit in mistake.edits:
                check_syntax(package / edit.file)
        except ValueError as error:
            return Verdict(mistake, False, f"stale: {error}")
        tests = files_that_test(mistake.task, root, str(day.tests))
        if not tests:
            return Verdict(mistake, False, f"{day.tests} has no test of its task")
        noted = [[catcher]] if catcher.partition("::")[0] in tests else []
        for chosen in [*noted, tests]:
            arguments = (root, chosen, PACKAGE, *JUST_WHICH, *QUICK)
            own, where = mistake.task.tests_begin, package.parent
            run = run_suites(*arguments, keyword=own, python_path=where, timeout=seconds, forked=True, patience=IN_VAIN)
            verdict = _judge(mistake, run, seconds)
            if verdict.caught:
                break
    return verdict


def _judge(mistake: Mistake, run: SuiteRun, seconds: float) -> Verdict:
    match run.exit_code:
        case 1 if run.failures:
            return Verdict(mistake, True, f"caught by {run.failures[0].name}", run.failures[0].node_id)
        case None:
            return Verdict(mistake, False, f"hang: the suite had not ended after {seconds:g} s")
        case 0 if any(result.lacked_compiler for result in run.results):
            return Verdict(mistake, None, f"not judged, since tests were skipped:\n{run.describe_skipped()}")
        case 0:
            return Verdict(mistake, False, "not caught: every test of its task passed")
        case code:
            return Verdict(mistake, False, f"the suite could not run (exit code {code}):\n{run.output}")
