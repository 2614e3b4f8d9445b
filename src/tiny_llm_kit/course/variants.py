"""Right answers of another shape than the reference, all of which the tests of their day have to accept.

Each is a folder in `tests/variants`. Its `variant.toml` gives `week`, `day`, a sentence `says` on what is different, and maybe
`[[edit]]`s of the reference (see `Edit`); any other file in the folder takes the place of the reference's file of that name.
"""

import shutil
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tiny_llm_kit.course.altered import Edit, copied_reference
from tiny_llm_kit.course.course_map import Course, Day
from tiny_llm_kit.course.suite import SuiteRun, TestResult, run_suites

PACKAGE = "tiny_llm_variant"
SECONDS = 600
TOML = "variant.toml"


@dataclass(frozen=True)
class Variant:
    """An answer to a day: the reference with these edits, and with what the files in `folder` hold in place of its own."""

    folder: Path
    day: Day
    says: str
    edits: tuple[Edit, ...]

    @property
    def files(self) -> list[Path]:
        """Paths from the folder, and from the root of the package."""
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
        return [path.relative_to(self.folder) for path in files if path.name != TOML]

    def apply(self, package: Path) -> None:
        """Change a copy of the reference; ValueError if the reference is no longer what this differs from."""
        for file in self.files:
            if not (package / file).is_file():
                raise ValueError(f"the reference has no {file}")
            if (package / file).read_bytes() == (self.folder / file).read_bytes():
                raise ValueError(f"{file} is what the reference has")
            shutil.copyfile(self.folder / file, package / file)
        for edit in self.edits:
            edit.apply(package)

    def __str__(self) -> str:
        return f"{self.folder.name} (week {self.day.week} day {self.day.number})"


@dataclass(frozen=True)
class Verdict:
    """`detail` says which tests refused the variant and why. `accepted` is None where the tests lacked a compiler."""

    variant: Variant
    accepted: bool | None
    detail: str


def load_variants(root: Path, course: Course) -> list[Variant]:
    """All variants in `root/tests/variants`; ValueError names the one that is wrong."""
    variants = []
    for path in sorted((root / "tests/variants").glob(f"*/{TOML}")):
        try:
            variants.append(_load(path, course))
        except (KeyError, TypeError, ValueError) as error:
            reason = f"lacks {error}" if isinstance(error, KeyError) else error
            raise ValueError(f"{path.relative_to(root)}: {reason}") from None
    return variants


def _load(path: Path, course: Course) -> Variant:
    fields = tomllib.loads(path.read_text(encoding="utf-8"))
    day = course.find_day(fields.pop("week"), fields.pop("day"))
    says, edits = fields.pop("says"), tuple(Edit(**edit) for edit in fields.pop("edit", []))
    if fields:
        raise ValueError(f"{', '.join(fields)} means nothing here")
    if day.planned:
        raise ValueError(f"{day} has no tests yet")
    variant = Variant(path.parent, day, says, edits)
    if not (variant.files or variant.edits):
        raise ValueError("no file and no edit makes it different from the reference")
    return variant


def run_variant(root: Path, variant: Variant, seconds: float = SECONDS) -> Verdict:
    """Runs the whole suite of the variant's day on it."""
    with copied_reference(root, PACKAGE) as package:
        try:
            variant.apply(package)
        except ValueError as error:
            return Verdict(variant, False, f"stale: {error}")
        run = run_suites(root, [str(variant.day.tests)], PACKAGE, "-q", python_path=package.parent, timeout=seconds)
    return _judge(variant, run, seconds)


def _judge(variant: Variant, run: SuiteRun, seconds: float) -> Verdict:
    refusals = [_describe(result) for result in run.results if result.outcome in ("failed", "error")]
    match run.exit_code:
        case 0 if any(result.lacked_compiler for result in run.results):
            return Verdict(variant, None, f"not judged, since tests were skipped:\n{run.describe_skipped()}")
        case 0:
            return Verdict(variant, True, f"accepted: {variant.says}")
        case 1 if refusals:
            return Verdict(variant, False, "\n".join([f"a right answer was refused ({variant.says})", *refusals]))
        case None:
            return Verdict(variant, False, f"hang: the suite had not ended after {seconds:g} s")
        case code:
            return Verdict(variant, False, f"the suite could not run (exit code {code}):\n{run.output}")


def _describe(result: TestResult) -> str:
    return f"  {result.suite.rpartition('.')[2]}::{result.name} - {result.reason.partition(chr(10))[0]}"
