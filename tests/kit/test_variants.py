"""Right answers of another shape: how they are laid over the reference, who is named when one is refused, what is stale."""

from pathlib import Path

import pytest

from kit.small_course import NUMBERS, OTHER_NUMBERS, VARIANT, write, write_small_course
from tiny_llm_kit.course.altered import copied_reference
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.metal_regions import lay_region_over
from tiny_llm_kit.course.overlay import lay_over
from tiny_llm_kit.course.variants import Variant, Verdict, load_variants, run_variant

SOURCE = '''\
"""Shapes."""

import math


class Square:
    """Given."""

    sides = 4

    def given(self):
        return 1

    @property
    @task(1, 2, 1)
    def area(self):
        return self._help() ** 2

    @task(1, 2, 1)
    def _help(self):
        return self._more()

    @task(1, 2, 1)
    def _more(self):
        return self.given()

    @task(1, 2, 1)
    def __len__(self):
        return self._still_used()

    @task(1, 2, 1)
    def _still_used(self):
        return 4


@task(1, 2, 1)
def _around(square):
    return 4 * square.given()


@task(1, 2, 1)
def around(square):
    return _around(square)
'''

OVERLAY = '''\
"""Other shapes."""

from operator import mul

TIMES = 4


class Square:
    """Ours."""

    @property
    @task(1, 2, 1)
    def area(self):
        return mul(self._side(), self._side())

    def _side(self):
        return self.given()


@task(1, 2, 1)
def around(square):
    return TIMES * square.given()
'''

LAID_OVER = '''\
"""Shapes."""

import math

from operator import mul

TIMES = 4


class Square:
    """Given."""

    sides = 4

    def given(self):
        return 1

    @property
    @task(1, 2, 1)
    def area(self):
        return mul(self._side(), self._side())

    @task(1, 2, 1)
    def __len__(self):
        return self._still_used()

    @task(1, 2, 1)
    def _still_used(self):
        return 4

    def _side(self):
        return self.given()


@task(1, 2, 1)
def around(square):
    return TIMES * square.given()
'''


def test_an_overlay_replaces_adds_and_removes() -> None:
    assert lay_over(SOURCE, OVERLAY) == LAID_OVER


@pytest.mark.parametrize(
    ("find", "replace", "message"),
    [
        ("def area(", "def volume(", "there is no Square.volume"),
        ("def around(", "def round(", "there is no round"),
        ("def area(", "def given(", "Square.given is not an answer"),
        ("class Square:", "def Square():", "Square is a class"),
    ],
)
def test_an_overlay_for_another_source_is_refused(find: str, replace: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        lay_over(SOURCE, OVERLAY.replace(find, replace))


KERNEL = """\
const uint t = 0;
  // @task(week=1, day=1, number=1)
  out[t] = 2 * x[t];
  // @end
"""


def test_a_kernel_has_its_marked_lines_replaced() -> None:
    other = "out[t] = x[t];\nout[t] += x[t];\n"
    assert lay_region_over(KERNEL, other) == KERNEL.replace("  out[t] = 2 * x[t];\n", other)
    for source, count in (("out[t] = 0;\n", 0), (KERNEL + KERNEL, 2)):
        with pytest.raises(ValueError, match=f"{count} marked regions"):
            lay_region_over(source, other)


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return write_small_course(tmp_path)


def variant_in(root: Path, numbers: str) -> Variant:
    """The variant of the small course, with these functions in it."""
    write(root / "tests/variants/adds/numbers.py", numbers)
    (variant,) = load_variants(root, load_course(root))
    return variant


def run(root: Path, numbers: str) -> Verdict:
    return run_variant(root, variant_in(root, numbers), 60)


def test_a_right_answer_is_accepted(small: Path) -> None:
    right = run(small, OTHER_NUMBERS)
    assert (right.accepted, right.detail) == (True, "accepted: Adds instead of multiplying.")
    assert str(right.variant) == "adds (week 1 day 1)"
    assert (small / "src/tiny_llm_ref/numbers.py").read_text() == NUMBERS, "the reference stays as it is"


def test_a_kernel_of_another_shape_is_laid_over_and_one_of_the_same_is_stale(small: Path) -> None:
    variant = variant_in(small, OTHER_NUMBERS)
    for text, stale in (("out[thread_position_in_grid.x] = 0;\n", False), ("", True)):
        with copied_reference(small, "kernels_copy") as package:
            kernel = package / "kernels/double.metal"
            region = kernel.read_text().partition("@task")[2].partition("\n")[2].partition("// @end")[0].rstrip(" ")
            write(variant.folder / "kernels/double.metal", text or region)
            if stale:
                with pytest.raises(ValueError, match=r"double\.metal holds nothing but what the reference has"):
                    variant.apply(package)
            else:
                variant.apply(package)
                assert text in kernel.read_text()
                assert "@end" in kernel.read_text()


def test_every_test_that_refuses_it_is_named(small: Path) -> None:
    refused = run(small, NUMBERS.replace("2 * x", "3 * x").replace("start -= 1", "start -= 2"))
    assert not refused.accepted
    first, second, third = refused.detail.splitlines()
    assert first == "a right answer was refused (Adds instead of multiplying.)"
    assert second.startswith("  test_day1_doubling::test_task_1_doubles - AssertionError: look at double")
    assert third.startswith("  test_day1_doubling::test_task_2_counts - AssertionError: look at the order")


def test_an_answer_that_has_a_task_to_do_is_not_asked_for_it(small: Path) -> None:
    write(small / "tests/variants/adds/variant.toml", f'{VARIANT}before = "task_2"\n')
    assert run(small, OTHER_NUMBERS.replace("start -= 1", "start -= 2")).accepted
    refused = run(small, OTHER_NUMBERS.replace("x + x", "x"))
    assert "test_task_1_doubles" in refused.detail, "the tests of all other tasks count"


def test_a_suite_that_cannot_run_has_not_accepted_it(small: Path) -> None:
    broken = run(small, OTHER_NUMBERS.replace("x + x", "x + x\n\n\nno_such_name"))
    assert not broken.accepted
    assert broken.detail.startswith("the suite could not run (exit code 2)")
    assert "no_such_name" in broken.detail


def test_a_suite_that_never_ends_has_not_accepted_it(small: Path) -> None:
    endless = variant_in(small, NUMBERS.replace("start -= 1", "start -= 0"))
    assert run_variant(small, endless, 4).detail == "hang: the suite had not ended after 4 s"


def test_a_variant_of_what_the_reference_no_longer_is_is_stale(small: Path) -> None:
    gone = run(small, OTHER_NUMBERS.replace("def double", "def triple"))
    assert (gone.accepted, gone.detail) == (False, "stale: numbers.py does not fit the reference: there is no triple")
    same = NUMBERS.partition("\n\n\n")[2]
    assert run(small, same).detail == "stale: numbers.py holds nothing but what the reference has"
    write(small / "tests/variants/adds/lost.py", "")
    assert run(small, OTHER_NUMBERS).detail == "stale: the reference has no lost.py"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (VARIANT.replace("week = 1", ""), "adds/variant.toml: lacks 'week'"),
        (VARIANT.replace("says", "tells"), "lacks 'says'"),
        (VARIANT.replace("day = 1", "day = 9"), "there is no week 1 day 9"),
        (VARIANT.replace("week = 1\nday = 1", "week = 2\nday = 6"), "has no tests yet"),
        (f"edits = 3\n{VARIANT}", "edits means nothing here"),
        ("week", "adds/variant.toml: "),
    ],
)
def test_a_wrong_variant_is_refused_with_the_place(small: Path, text: str, message: str) -> None:
    write(small / "tests/variants/adds/variant.toml", text)
    with pytest.raises(ValueError, match=message):
        load_variants(small, load_course(small))


def test_a_variant_without_files_is_refused(small: Path) -> None:
    (small / "tests/variants/adds/numbers.py").unlink()
    with pytest.raises(ValueError, match="no file next to it"):
        load_variants(small, load_course(small))
