"""Runs the suite of a day on mutants of its answers: those that no test notices show what the suite does not ask for.

Mutants that are no worse than the original are listed in `tests/mutants/*.toml`: `week` and `day`, and a list of
`[[equivalent]]` with the fields of one `Equivalent`. They name no line numbers, so that they outlive changes elsewhere.
"""

import tomllib
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.altered import copied_reference, describe_bad_entry
from tiny_llm_kit.course.course_map import Day
from tiny_llm_kit.course.mutation import Mutant
from tiny_llm_kit.course.suite import SuiteRun, run_suites

PACKAGE = "tiny_llm_mutant"


@dataclass(frozen=True)
class Equivalent:
    """A mutant of `function` in `file` that does the same as the original: the line `before`, changed to `after`."""

    file: str
    function: str
    before: str
    after: str
    reason: str

    def describes(self, mutant: Mutant) -> bool:
        return (self.file, self.function, self.before, self.after) == (
            mutant.file,
            mutant.function,
            mutant.before,
            mutant.after,
        )

    def __str__(self) -> str:
        return f"{self.file} {self.function}: {self.before}  →  {self.after}"


@dataclass(frozen=True)
class Result:
    """`detail` says which test killed the mutant, or how else it ended; it is "" for a survivor."""

    mutant: Mutant
    killed: bool
    detail: str
    hung: bool = False


@dataclass
class Tally:
    """How many mutants of those that were run were killed, and how many are known to be equivalent and were not run."""

    equivalent: int
    killed: int = 0
    survived: int = 0

    def add(self, result: Result) -> None:
        self.killed += result.killed
        self.survived += not result.killed

    @property
    def share(self) -> float:
        """Of those that were run, 0 … 1; 1 if there were none."""
        return self.killed / (self.killed + self.survived) if self.killed + self.survived else 1.0

    def __str__(self) -> str:
        judged, verb = self.killed + self.survived, "is" if self.equivalent == 1 else "are"
        return f"killed {self.killed} of {judged} ({self.share:.1%}), {self.equivalent} {verb} known to be equivalent"


def load_equivalents(root: Path, day: Day) -> list[Equivalent]:
    """Those of a day; ValueError names the file and the entry that is wrong."""
    found = []
    for path in sorted((root / "tests/mutants").glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            if (table["week"], table["day"]) == (day.week, day.number):
                found += [Equivalent(**entry) for entry in table.get("equivalent", [])]
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.relative_to(root)}: {describe_bad_entry(error)}") from None
    return found


def find_stale(equivalents: list[Equivalent], mutants: list[Mutant]) -> list[Equivalent]:
    """Those that describe none of a day's mutants: the answer has changed since."""
    return [entry for entry in equivalents if not any(entry.describes(mutant) for mutant in mutants)]


def run_original(root: Path, day: Day, seconds: float) -> None:
    """Runs the suite on an unchanged copy; ValueError if not every test passes, since mutants would prove nothing then."""
    with copied_reference(root, PACKAGE) as package:
        run = run_suites(root, [str(day.tests)], PACKAGE, "-x", "-q", python_path=package.parent, timeout=seconds)
    if run.exit_code != 0:
        raise ValueError(f"the suite of {day} does not pass on the reference, so that mutants prove nothing:\n{run.output}")
    if run.count("skipped"):
        raise ValueError(f"some tests of {day} cannot run here, so that mutants prove nothing:\n{run.describe_skipped()}")


def run_mutant(root: Path, day: Day, mutant: Mutant, seconds: float) -> Result:
    """Runs the suite of the day on a mutant, its task's tests first, until one fails, for so many seconds at most."""
    with copied_reference(root, PACKAGE) as package:
        mutant.apply(package)
        first = ["--first", mutant.task.tests_begin]
        run = run_suites(root, [str(day.tests)], PACKAGE, "-x", "-q", *first, python_path=package.parent, timeout=seconds)
    return Result(mutant, run.exit_code != 0, _describe(run, seconds), run.exit_code is None)


def _describe(run: SuiteRun, seconds: float) -> str:
    match run.exit_code:
        case 0:
            return ""
        case None:
            return f"hang: the suite had not ended after {seconds:.0f} s"
        case 1 if run.failures:
            return f"by {run.failures[0].name}"
        case code:
            return f"the suite could not run (exit code {code})"
