"""On a machine that cannot run Metal kernels, tests that need one are skipped, and nobody takes that for a pass."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from kit.small_course import edit, run_command, write, write_checked_course
from metal_anywhere.errors import MetalError, NoCompiler, OutOfBounds, find_no_compiler
from tiny_llm_kit.cli.check import main

REASON = "no C++ compiler: install one"

TEST_KERNELS = """\
import pytest
from answer import answer
from hypothesis import given, strategies
from metal_anywhere.errors import NoCompiler, OutOfBounds


def launch():
    raise NoCompiler("install one", kernel="double")


@pytest.fixture
def doubled():
    launch()


def test_task_1_calls_a_kernel():
    launch()


def test_task_1_uses_a_fixture(doubled):
    pass


@given(strategies.integers())
def test_task_1_for_all_numbers(x):
    launch()


def test_task_1_asserts():
    try:
        launch()
    except Exception as error:
        raise AssertionError("the kernel should run") from error


def test_task_1_expects_another_error():
    with pytest.raises(OutOfBounds):
        launch()


def test_task_1_fails_for_another_reason():
    raise OutOfBounds("reads x[9]", kernel="double")


def test_task_1_stub():
    assert answer.double(4) == 8
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_checked_course(tmp_path, monkeypatch)


def add_skipped_test(root: Path, body: str = "launch()") -> None:
    """To day 1: a test of task 1 that does what only a compiler allows."""
    test = TEST_KERNELS.partition("@pytest.fixture")[0] + f"def test_task_1_kernel():\n    {body}\n"
    numbers = root / "tests/week1/test_day1_doubling.py"
    write(numbers, f"{test}\n\n{numbers.read_text()}")


def test_a_test_that_lacks_a_compiler_is_skipped_and_the_summary_says_so_once(small: Path) -> None:
    write(small / "tests/week1/test_day1_doubling.py", TEST_KERNELS)
    done = run_command(small, "test", "--week", "1", "--day", "1", "--solution", "ref")
    assert done.returncode == 1
    assert "1 failed, 1 passed, 5 skipped" in done.stdout
    assert re.findall(r"^5 tests were skipped: .*$", done.stdout, re.MULTILINE) == [f"5 tests were skipped: {REASON}"]
    assert done.stdout.count(REASON) == 1
    assert "test_task_1_fails_for_another_reason - OutOfBounds: kernel 'double': reads x[9]" in done.stdout


def test_the_summary_is_silent_where_nothing_was_skipped(small: Path) -> None:
    done = run_command(small, "test", "--week", "1", "--day", "1", "--solution", "ref")
    assert done.returncode == 0
    assert "could not run" not in done.stdout


def test_check_counts_no_skipped_test_as_passed_and_mentions_it(small: Path) -> None:
    add_skipped_test(small)
    done = CliRunner().invoke(main, ["--only", "reference"])
    assert done.exit_code == 0, done.output
    assert f"\n1 skipped: {REASON}\n" in done.output
    assert done.output.splitlines()[-1] == "3 passed, 0 failed"


def test_on_the_skeleton_too(small: Path) -> None:
    add_skipped_test(small)
    done = CliRunner().invoke(main, ["--only", "stubs"])
    assert done.exit_code == 0, done.output
    assert f"\n1 skipped: {REASON}\n" in done.output
    assert done.output.splitlines()[-1] == "3 passed, 0 failed"


def test_a_skip_for_another_reason_is_a_problem_on_the_skeleton(small: Path) -> None:
    add_skipped_test(small, 'pytest.skip("too slow")')
    done = CliRunner().invoke(main, ["--only", "stubs"])
    assert done.exit_code == 1
    assert "test_task_1_kernel: skipped, but it should fail" in done.output
    assert done.output.splitlines()[-1] == "3 passed, 1 failed"


def test_a_mistake_that_only_a_skipped_test_might_catch_is_not_judged(small: Path) -> None:
    add_skipped_test(small)
    numbers = small / "tests/mistakes/numbers.toml"
    edit(numbers, 'replace = "2 * x + 1"', 'replace = "x * 2"')
    done = CliRunner().invoke(main, ["--only", "mistakes"])
    assert done.exit_code == 0, done.output
    assert "steps of two (week 1 day 1, task 2): caught by test_task_2_counts\n" in done.output
    assert f"one too many (week 1 day 1, task 1): not judged, since tests were skipped:\n1 skipped: {REASON}\n" in done.output
    assert done.output.splitlines()[-1] == "1 passed, 0 failed"


def test_only_what_a_missing_compiler_led_to_is_excused() -> None:
    lacking, other = NoCompiler("install one", kernel="a"), OutOfBounds("reads x[9]", kernel="a")
    assert find_no_compiler(lacking) is lacking
    assert find_no_compiler(other) is None
    assert find_no_compiler(None) is None
    other.__cause__ = lacking
    assert find_no_compiler(other) is lacking


def test_an_error_says_in_one_line_where_it_happened() -> None:
    error = MetalError(
        "reads x[640], but x has 640 elements of 4 bytes",
        kernel="matvec",
        location="matvec.metal:12",
        threadgroup=(3, 0, 0),
        thread=(17, 0, 0),
    )
    assert str(error) == (
        "kernel 'matvec', matvec.metal:12, threadgroup (3, 0, 0), thread (17, 0, 0): "
        "reads x[640], but x has 640 elements of 4 bytes"
    )
    assert str(MetalError("is no good", kernel="matvec")) == "kernel 'matvec': is no good"
    assert str(NoCompiler("install one", kernel="matvec")) == f"kernel 'matvec': {REASON}"
