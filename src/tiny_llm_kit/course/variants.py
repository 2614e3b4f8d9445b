"""Right answers of another shape than the reference, all of which the tests of their day have to accept.

Each is a folder in `tests/variants`. Its `variant.toml` gives `week`, `day`, and in `says` what is different. Its other files
hold the functions that differ, and are laid over the reference's files of the same names; see `overlay`. A `.metal` file holds
the lines of an answer. An answer that has a task still to do names that task's tests in `before` (`"task_4_ahead"`), and has to
pass all others.
"""

import ast
import tomllib
from dataclasses import dataclass
from pathlib import Path

import libcst as cst

from tiny_llm_kit.course.altered import copied_reference, describe_bad_entry, overwrite
from tiny_llm_kit.course.course_map import Course, Day
from tiny_llm_kit.course.metal_regions import lay_region_over
from tiny_llm_kit.course.overlay import lay_over
from tiny_llm_kit.course.suite import SuiteRun, TestResult, run_suites

PACKAGE = "tiny_llm_variant"
SECONDS = 600
TOML = "variant.toml"
LAID_OVER = {".py": lay_over, ".metal": lay_region_over}


@dataclass(frozen=True)
class Variant:
    """An answer to a day: the reference, with the files in `folder` laid over its own."""

    folder: Path
    day: Day
    says: str
    before: str = ""

    @property
    def files(self) -> list[Path]:
        """Paths from the folder, and from the root of the package."""
        return [path.relative_to(self.folder) for path in sorted(self.folder.rglob("*")) if path.suffix in LAID_OVER]

    def apply(self, package: Path) -> None:
        """Change a copy of the reference; ValueError if the reference is no longer what this differs from."""
        for file in self.files:
            if not (package / file).is_file():
                raise ValueError(f"the reference has no {file}")
            source, overlay = ((folder / file).read_text(encoding="utf-8") for folder in (package, self.folder))
            try:
                changed = LAID_OVER[file.suffix](source, overlay)
            except (ValueError, cst.ParserSyntaxError) as error:
                raise ValueError(f"{file} does not fit the reference: {error}") from None
            if _says_the_same(file, changed, source):
                raise ValueError(f"{file} holds nothing but what the reference has")
            overwrite(package / file, changed.encode())

    def __str__(self) -> str:
        return f"{self.folder.name} (week {self.day.week} day {self.day.number})"


def _says_the_same(file: Path, text: str, other: str) -> bool:
    if file.suffix == ".py":
        return ast.dump(ast.parse(text)) == ast.dump(ast.parse(other))
    return text.split() == other.split()


@dataclass(frozen=True)
class Verdict:
    """`detail` says which tests refused the variant and why. `accepted` is None where the tests lacked a compiler."""

    variant: Variant
    accepted: bool | None
    detail: str


def load_variants(root: Path, course: Course) -> list[Variant]:
    """All variants in `root/tests/variants`, day by day; ValueError names the one that is wrong."""
    variants = []
    for path in sorted((root / "tests/variants").glob(f"*/{TOML}")):
        try:
            variants.append(_load(path, course))
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path.relative_to(root)}: {describe_bad_entry(error)}") from None
    return sorted(variants, key=lambda variant: (variant.day.week, variant.day.number))


def _load(path: Path, course: Course) -> Variant:
    fields = tomllib.loads(path.read_text(encoding="utf-8"))
    day = course.find_day(fields.pop("week"), fields.pop("day"))
    variant = Variant(path.parent, day, fields.pop("says"), fields.pop("before", ""))
    if fields:
        raise ValueError(f"{', '.join(fields)} means nothing here")
    if day.planned:
        raise ValueError(f"{day} has no tests yet")
    if not variant.files:
        raise ValueError("no file next to it says what is different")
    return variant


def run_variant(root: Path, variant: Variant, seconds: float = SECONDS) -> Verdict:
    """Runs the suite of the variant's day on it, but for the tests marked `real_model` and those of a task still to be done."""
    keyword = f"not {variant.before}" if variant.before else ""
    with copied_reference(root, PACKAGE) as package:
        try:
            variant.apply(package)
        except ValueError as error:
            return Verdict(variant, False, f"stale: {error}")
        arguments, where = ("-q", "-m", "not real_model"), package.parent
        tests = [str(variant.day.tests)]
        run = run_suites(root, tests, PACKAGE, *arguments, keyword=keyword, python_path=where, timeout=seconds, forked=True)
    return _judge(variant, run, seconds)


def _judge(variant: Variant, run: SuiteRun, seconds: float) -> Verdict:
    refusals = [_describe(result) for result in run.failures]
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
