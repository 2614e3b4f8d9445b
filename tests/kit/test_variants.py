"""Right answers of another shape: what is accepted, who is named when one is refused, and that a stale one is noticed."""

from pathlib import Path

import pytest

from kit.small_course import NUMBERS, VARIANT, edit, write, write_small_course
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.variants import Variant, Verdict, load_variants, run_variant

WHOLE = 'week = 1\nday = 1\nsays = "A file of its own."\n'


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return write_small_course(tmp_path)


def variant_in(root: Path, text: str, files: dict[str, str]) -> Variant:
    (root / "tests/variants/adds/variant.toml").unlink(missing_ok=True)
    write(root / "tests/variants/other/variant.toml", text)
    for name, content in files.items():
        write(root / "tests/variants/other" / name, content)
    (variant,) = load_variants(root, load_course(root))
    return variant


def run(root: Path, text: str, files: dict[str, str] | None = None) -> Verdict:
    return run_variant(root, variant_in(root, text, files or {}), 60)


def test_edits_and_whole_files_make_a_variant(small: Path) -> None:
    by_edit = run(small, VARIANT)
    assert (by_edit.accepted, by_edit.detail) == (True, "accepted: Adds instead of multiplying.")
    assert str(by_edit.variant) == "other (week 1 day 1)"
    whole = run(small, WHOLE, {"numbers.py": NUMBERS.replace("while start > 0:", "while start:").replace("2 * x", "x << 1")})
    assert (whole.accepted, whole.detail) == (True, "accepted: A file of its own.")
    assert (small / "src/tiny_llm_ref/numbers.py").read_text() == NUMBERS


def test_every_test_that_refuses_it_is_named(small: Path) -> None:
    refused = run(small, WHOLE, {"numbers.py": NUMBERS.replace("2 * x", "3 * x").replace("start -= 1", "start -= 2")})
    assert not refused.accepted
    first, second, third = refused.detail.splitlines()
    assert first == "a right answer was refused (A file of its own.)"
    assert second.startswith("  test_day1_doubling::test_task_1_doubles - AssertionError: look at double")
    assert third.startswith("  test_day1_doubling::test_task_2_counts - AssertionError: look at the order")


def test_a_suite_that_cannot_run_has_not_accepted_it(small: Path) -> None:
    broken = run(small, WHOLE, {"numbers.py": "def double(:\n"})
    assert not broken.accepted
    assert broken.detail.startswith("the suite could not run (exit code 2)")
    assert "SyntaxError" in broken.detail


def test_a_suite_that_never_ends_has_not_accepted_it(small: Path) -> None:
    endless = variant_in(small, VARIANT.replace("2 * x", "start -= 1").replace("x + x", "pass"), {})
    assert run_variant(small, endless, 4).detail == "hang: the suite had not ended after 4 s"


def test_a_variant_of_what_the_reference_no_longer_is_is_stale(small: Path) -> None:
    assert run(small, VARIANT.replace("2 * x", "7 * x")).detail == "stale: numbers.py holds '7 * x' 0 times, not 1"
    assert run(small, WHOLE, {"numbers.py": NUMBERS}).detail == "stale: numbers.py is what the reference has"
    edit(small / "tests/variants/other/numbers.py", "2 * x", "x + x")
    assert run(small, WHOLE, {"gone.py": "1"}).detail == "stale: the reference has no gone.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (WHOLE, "other/variant.toml: no file and no edit"),
        (VARIANT.replace("week = 1", ""), "other/variant.toml: lacks 'week'"),
        (VARIANT.replace("day = 1", "day = 9"), "there is no week 1 day 9"),
        (VARIANT.replace("week = 1\nday = 1", "week = 2\nday = 6"), "has no tests yet"),
        (VARIANT.replace("find", "seek"), "unexpected keyword argument 'seek'"),
        (f"edits = 3\n{VARIANT}", "edits means nothing here"),
        ("week", "other/variant.toml: "),
    ],
)
def test_a_wrong_variant_is_refused_with_the_place(small: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        variant_in(small, text, {})
