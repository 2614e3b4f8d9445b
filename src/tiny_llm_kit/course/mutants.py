"""Runs the suite of a day on mutants of its answers: those that no test notices show what the suite does not ask for.

Mutants that are no worse than the original are listed in `tests/mutants/*.toml`: `week` and `day`, and a list of
`[[equivalent]]` with the fields of one `Known`. A list `[[survivor]]` of the same form holds those that are worse, or may be,
and that no test kills, with the reason why none does. They name no line numbers, so they survive changes elsewhere.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.altered import copied_reference, describe_bad_entry
from tiny_llm_kit.course.course_map import Day
from tiny_llm_kit.course.mutation import Mutant
from tiny_llm_kit.course.suite import IN_VAIN, JUST_WHICH, QUICK, SuiteRun, files_that_test, run_suites

PACKAGE = "tiny_llm_mutant"

NONE_CHOSEN = 5  # pytest's exit code where `-k` leaves no test


@dataclass(frozen=True)
class Known:
    """A mutant of `function` in `file`, the line `before` changed to `after`, and the `reason` why it lives."""

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
    """`detail` says which test killed the mutant, or how else it ended; it is "" for a survivor.

    `killer` is that test as pytest's command line names it, "" if there was none.
    """

    mutant: Mutant
    killed: bool
    detail: str
    hung: bool = False
    killer: str = ""


class Killers:
    """The tests that killed mutants of each function, the latest first: most of its other mutants fall to the same tests."""

    MOST = 4
    """More would rarely help, and a mutant that none of them kills has run them in vain."""

    def __init__(self) -> None:
        self._tests: dict[tuple[str, str], list[str]] = {}

    def of(self, mutant: Mutant) -> list[str]:
        return self._tests.get((mutant.file, mutant.function), [])[: self.MOST]

    def add(self, result: Result) -> None:
        if result.killer:
            key = (result.mutant.file, result.mutant.function)
            others = [test for test in self._tests.get(key, []) if test != result.killer]
            self._tests[key] = [result.killer, *others]


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
        """How many were killed of those that were run, 0 … 1; 1 if there were none."""
        return self.killed / (self.killed + self.survived) if self.killed + self.survived else 1.0

    def __str__(self) -> str:
        judged, verb = self.killed + self.survived, "is" if self.equivalent == 1 else "are"
        return f"killed {self.killed} of {judged} ({self.share:.1%}), {self.equivalent} {verb} known to be equivalent"


@dataclass(frozen=True)
class KnownMutants:
    """What `tests/mutants` says of one day."""

    equivalents: list[Known]
    survivors: list[Known]

    def is_equivalent(self, mutant: Mutant) -> bool:
        return any(entry.describes(mutant) for entry in self.equivalents)

    def reason_to_survive(self, mutant: Mutant) -> str:
        """ "" if no reason is given why no test kills it."""
        return next((entry.reason for entry in self.survivors if entry.describes(mutant)), "")

    def find_stale(self, mutants: list[Mutant]) -> list[Known]:
        """Those that describe none of a day's mutants: the answer has changed since."""
        return [entry for entry in self.equivalents + self.survivors if not any(entry.describes(mutant) for mutant in mutants)]


def load_known(root: Path, day: Day) -> KnownMutants:
    """Those of a day; ValueError names the file and the entry that is wrong."""
    known = KnownMutants([], [])
    for path in sorted((root / "tests/mutants").glob("*.toml")):
        try:
            table = tomllib.loads(path.read_text(encoding="utf-8"))
            if (table["week"], table["day"]) == (day.week, day.number):
                known.equivalents.extend(Known(**entry) for entry in table.get("equivalent", []))
                known.survivors.extend(Known(**entry) for entry in table.get("survivor", []))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path.relative_to(root)}: {describe_bad_entry(error)}") from None
    return known


def run_original(root: Path, day: Day, seconds: float) -> None:
    """Runs the suite on an unchanged copy; ValueError if not every test passes, since mutants would prove nothing then."""
    with copied_reference(root, PACKAGE) as package:
        run = run_suites(root, [str(day.tests)], PACKAGE, "-x", "-q", python_path=package.parent, timeout=seconds)
    if run.exit_code != 0:
        raise ValueError(f"the suite of {day} does not pass on the reference, so that mutants prove nothing:\n{run.output}")
    if run.count("skipped"):
        raise ValueError(f"some tests of {day} cannot run here, so that mutants prove nothing:\n{run.describe_skipped()}")


def run_mutant(root: Path, day: Day, mutant: Mutant, seconds: float, killers: Sequence[str] = ()) -> Result:
    """Runs the suite of the day on a mutant until a test fails, for at most this many seconds per part.

    First come `killers`, tests that killed its like, then its task's tests, then the others.
    """
    own = mutant.task.tests_begin
    parts = [(files_that_test(mutant.task, root, str(day.tests)), own), ([str(day.tests)], f"not {own}")]
    with copied_reference(root, PACKAGE) as package:
        mutant.apply(package)

        def run_part(tests: Sequence[str], keyword: str = "") -> SuiteRun:
            arguments, where = (*JUST_WHICH, *QUICK), package.parent
            return run_suites(
                *(root, tests, PACKAGE, *arguments),
                keyword=keyword,
                python_path=where,
                timeout=seconds,
                forked=True,
                patience=IN_VAIN,
            )

        if killers and (run := run_part(killers)).failures:
            return _judge(mutant, run, seconds)
        for tests, chosen in parts:
            run = run_part(tests, chosen)
            if run.exit_code not in (0, NONE_CHOSEN):
                break
    return _judge(mutant, run, seconds)


def _judge(mutant: Mutant, run: SuiteRun, seconds: float) -> Result:
    if run.exit_code in (0, NONE_CHOSEN):
        return Result(mutant, False, "")
    killer = run.failures[0].node_id if run.failures else ""
    return Result(mutant, True, _describe(run, seconds), run.exit_code is None, killer)


def _describe(run: SuiteRun, seconds: float) -> str:
    match run.exit_code:
        case None:
            return f"hang: the suite had not ended after {seconds:.0f} s"
        case 1 if run.failures:
            return f"by {run.failures[0].name}"
        case code:
            return f"the suite could not run (exit code {code})"
