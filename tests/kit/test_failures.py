"""What a learner sees of a test that fails: of one that never ends, one that raises, and one whose error was caught."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kit.small_course import edit, write, write_small_course
from reasons import first_line, own_line

SPIN = "spin()\n\n\ndef spin():\n    while True:\n        pass"
SWALLOW = "import time\n    while True:\n        try:\n            time.sleep(0.01)\n        except:\n            continue"
THREAD = """import threading, time
    other = threading.Thread(target=wait)
    other.start()
    other.join()


def wait():
    import time
    while True:
        time.sleep(0.5)"""
NO_FILES_LEFT = """import resource
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (99, limits[1]))
    try:
        hoard()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def hoard():
    import os
    while True:
        try:
            os.dup(0)
        except OSError:
            continue"""
LOCK = "import threading\n    lock = threading.Lock()\n    lock.acquire()\n    lock.acquire()"


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_small_course(tmp_path)


TESTS = "tests/week1/test_day1_doubling.py"
PROPERTY = """\
from answer import answer
from hypothesis import given, strategies


@given(x=strategies.integers())
def test_task_1_doubles(x):
    assert answer.double(x) == 2 * x, 'look at double'
"""


def run_tests(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """pytest as a learner sees it, with the plugins that are installed."""
    command = [sys.executable, "-m", "pytest", TESTS, "--solution", "ref", "--tb=short", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "TINY_LLM_SOLUTION"} | {"PYTHONPATH": "src"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


def summary(done: subprocess.CompletedProcess[str]) -> str:
    return done.stdout.partition("what failed, and why")[2]


@pytest.mark.parametrize(
    ("body", "places"),
    [
        (SPIN, ("double", "spin")),
        (SWALLOW, ("double",)),
        (THREAD, ("double", "wait")),
        (LOCK, ("double",)),
        (NO_FILES_LEFT, ("double", "hoard")),
    ],
    ids=["a loop", "a loop that catches everything", "another thread", "a lock", "no files left"],
)
def test_a_test_that_never_ends_names_the_line(small: Path, body: str, places: tuple[str, ...]) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", body)
    done = run_tests(small, "--timeout", "1", "-k", "test_task_1_doubles", f"--junitxml={small / 'report.xml'}")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "test_task_1_doubles" in summary(done)
    assert "this had not ended after 1 s. What was running: " in summary(done)
    for name in places:
        assert f"{name} (src/tiny_llm_ref/numbers.py:" in summary(done), "the learner's own line"
    assert "test_task_1_doubles" in (small / "report.xml").read_text(), "whoever reads the report knows what failed"


def test_a_test_that_can_be_stopped_leaves_the_others_their_turn(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", SPIN)
    done = run_tests(small, "--timeout", "1")
    assert "1 failed, 1 passed" in done.stdout


def test_a_suite_of_tests_that_never_end_is_not_run_to_its_end(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", SPIN)
    test = "from answer import answer\nimport pytest\n\n\n@pytest.mark.parametrize('x', range(9))\n"
    write(small / TESTS, f"{test}def test_task_1_doubles(x):\n    assert answer.double(x) == 2 * x\n")
    done = run_tests(small, "--timeout", "1")
    assert "3 failed" in done.stdout
    assert "3 tests had to be stopped, and others may be as endless: fix these first" in done.stdout


def test_hypothesis_does_not_try_a_hang_again(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", SPIN)
    write(small / TESTS, PROPERTY)
    done = run_tests(small, "--timeout", "1")
    assert "1 failed" in done.stdout
    assert "numbers.py:" in summary(done)


def test_the_clock_stands_still_while_others_keep_the_machine_busy(small: Path) -> None:
    """A process that gets a tenth of a core, as this one that sleeps most of the time, may take longer."""
    slow = (
        "import time\n    end = time.monotonic() + 3\n    while time.monotonic() < end:\n"
        "        until = time.monotonic() + 0.01\n        while time.monotonic() < until:\n            pass\n"
        "        time.sleep(0.09)\n    return 2 * x"
    )
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", slow)
    done = run_tests(small, "--timeout", "1", "-k", "test_task_1_doubles")
    assert done.returncode == 0, done.stdout


def test_the_summary_names_the_line_that_raised(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return [][x]")
    done = run_tests(small, "-k", "test_task_1_doubles")
    assert (
        "test_task_1_doubles - IndexError: list index out of range\n    in double (src/tiny_llm_ref/numbers.py:" in done.stdout
    )


def test_the_summary_names_the_line_of_the_cause(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return [][x]")
    edit(
        small / TESTS,
        "    assert answer.double(4) == 8",
        "    try:\n        answer.double(4)\n    except IndexError as error:\n"
        "        raise AssertionError('the request has failed') from error\n    assert True",
    )
    done = run_tests(small, "-k", "test_task_1_doubles")
    assert "AssertionError: the request has failed\n    in double (src/tiny_llm_ref/numbers.py:" in summary(done)


def test_the_error_behind_a_missing_warning_is_named(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return [][x]")
    edit(
        small / TESTS,
        "    assert answer.double(4)",
        "    import pytest\n    with pytest.warns(UserWarning):\n        assert answer.double(4)",
    )
    done = run_tests(small, "-k", "test_task_1_doubles")
    assert "IndexError: list index out of range\n    in double (src/tiny_llm_ref/numbers.py:" in summary(done)


KEEPING = """\
from answer import answer


class Request:
    request_id, error = 3, None


def test_task_1_doubles():
    request = Request()
    try:
        answer.double(4)
    except Exception as error:
        request.error = error  # as an engine does
    assert False, "the answer is another"
"""


def test_a_stub_whose_error_an_engine_has_kept_is_what_fails(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "raise NotImplementedError('Week 1 Day 1, task 1')")
    write(small / TESTS, KEEPING)
    assert "- NotImplementedError: Week 1 Day 1, task 1\n    in double (src/tiny_llm_ref/" in summary(run_tests(small))


def test_an_error_that_an_engine_has_kept_is_named_beside_the_failure(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return [][x]")
    write(small / TESTS, KEEPING)
    said = summary(run_tests(small))
    assert (
        "- AssertionError: the answer is another\n    request 3 had ended with IndexError: list index out of range, in " in said
    )
    assert "in double (src/tiny_llm_ref/numbers.py:" in said


def test_hypothesis_says_no_more_than_the_example(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return 2 * x if x < 7 else 0")
    write(small / TESTS, PROPERTY)
    done = run_tests(small)
    assert "x=7" in done.stdout, "the smallest example"
    for noise in ("git apply", "@example", "reproduce", "Explanation", ".hypothesis"):
        assert noise not in done.stdout
    assert not (small / ".hypothesis/patches").exists()


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("first\nsecond"), "ValueError: first"),
        (AssertionError("\n\n  look at this\nand that"), "AssertionError: look at this"),
        (AssertionError("assert 1 == 2\n  more"), "assert 1 == 2"),
        (AssertionError(), "AssertionError"),
        (KeyError("x"), "KeyError: 'x'"),
    ],
)
def test_the_first_line_that_says_something(error: BaseException, line: str) -> None:
    assert first_line(error) == line


def test_what_the_test_says_comes_after_numpys_heading() -> None:
    with pytest.raises(AssertionError) as caught:
        np.testing.assert_allclose([1.0, 2.0], [1.0, 3.0], rtol=1e-3, err_msg="look at the scale")
    assert first_line(caught.value).startswith("AssertionError: Not equal to tolerance rtol=0.001")
    assert first_line(caught.value).endswith(": look at the scale")


def test_an_error_that_does_not_come_from_the_answer_has_no_line() -> None:
    with pytest.raises(ValueError) as caught:
        int("x")
    assert own_line(caught.value) == ""
