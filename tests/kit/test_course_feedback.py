"""What `pdm run course test` tells of failures, and that a crash costs one test its result and no other."""

from pathlib import Path

import pytest

from kit.guided_course import COUNT_ANSWER, COUNT_STUB, NUMBERS, TESTS, answer_double, guide, write_guided_course
from kit.small_course import edit, write
from tiny_llm_kit.course.failure import Failure
from tiny_llm_kit.course.guided_run import Ended, Run, run_tests

MANY = """\
import numpy as np
import pytest
from answer import answer


@pytest.mark.parametrize("x", [1, 2, 3, 4])
def test_task_1_doubles(x):
    got = answer.double(x)
    print("the answer to", x, "is", got)
    assert got == 2 * x, (
        f"twice {x} is {2 * x}: look at double"
    )


def test_task_1_of_arrays():
    x = np.arange(6.0).reshape(2, 3)
    assert (answer.double(x) == 2 * x).all(), "each number is doubled"


def test_task_1_raises_later():
    try:
        assert answer.double(5) == 7777
    except AssertionError:
        pass
    raise AssertionError("this came after")


def test_task_1_of_nothing():
    assert answer.double(None) is None, "nothing stays nothing"


def test_task_2_counts():
    numbers = list(answer.count_down(3))
    assert numbers == [3, 2, 1], "look at the order"


def test_task_2_ends():
    assert list(answer.count_down(0)) == []
"""

DYING = """\
import os, pytest
from answer import answer


@pytest.mark.parametrize("x", range(3))
def test_task_1_doubles(x):
    assert answer.double(x) == 2 * x


@pytest.mark.parametrize("start", range(5))
def test_task_2_counts(start):
    assert len(list(answer.count_down(start))) == start
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_guided_course(tmp_path)


def test_a_failure_says_what_was_called_what_came_back_and_what_was_expected(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(root / TESTS, MANY)
    answer_double(root, "return 3 * x")
    done = guide(root, monkeypatch, "test", "1", "1")
    assert done.exit_code == 1, done.output
    said = " ".join(done.output.split())
    assert "✗ doubles [1] called answer.double(x) with x = 1 got 3 expected 2 says twice 1 is 2: look at double" in said
    assert "printed the answer to 1 is 3 where double (src/tiny_llm/numbers.py:" in said
    assert "and 3 more tests fail the same way" in said, "the others differ by their numbers only"
    assert "called answer.double(x) with x = (2, 3): [[0, 1, 2], [3, 4, 5]]" in said
    assert "TypeError" in said
    assert "this came after" in said
    assert "7777" not in said, "another assert is not what failed"
    assert said.count("hint Add it. (More: pdm run course hint 1 1 1)") == 1, "one hint for the task"
    assert said.count("read book/src/doubling.md#task-1-double (Task 1: double)") == 1
    assert "✗ Task 2 is not written yet (2 tests): count_down (src/tiny_llm/numbers.py:" in said
    assert "look at the order" not in said, "a stub needs no more than its line"
    assert "0 of 7 pass" in said


def test_lists_are_shown_over_each_other_and_v_shows_everything(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(root / TESTS, MANY)
    answer_double(root, "return x")
    edit(root / NUMBERS, COUNT_STUB, COUNT_ANSWER.replace("start -= 1", "start -= 2"))
    done = guide(root, monkeypatch, "test", "1", "1", "-v")
    lines = [line.strip() for line in done.output.splitlines()]
    caret = lines.index("^")
    assert [line.split() for line in lines[caret - 2 : caret]] == [["yours", "3,", "1"], ["expected", "3,", "2,", "1"]]
    assert "1 of 2 pass" in done.output
    assert done.output.count("✗ doubles [") == 4, "none is folded"


STUBS = """\
import pytest
from answer import answer


class TestCounting:
    @pytest.fixture(scope="class")
    def start(self):
        yield 3

    @pytest.mark.parametrize("again", range(4))
    def test_task_2_counts(self, start, again):
        open("began", "a").write("one\\n")
        assert list(answer.count_down(start)) == [3, 2, 1]


def test_of_no_task():
    assert True
"""


@pytest.mark.parametrize(("arguments", "began"), [([], 1), (["-v"], 4)])
def test_of_a_task_without_an_answer_one_test_meets_the_stub(
    root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], began: int
) -> None:
    write(root / TESTS, STUBS)
    done = guide(root, monkeypatch, "test", "1", "1", *arguments)
    assert "Task 2 is not written yet (4 tests)" in done.output
    assert "0 of 4 pass" in done.output
    assert "1 of 1 pass" in done.output, f"what comes after the tests that were not run is not disturbed:\n{done.output}"
    assert (root / "began").read_text().count("one") == began
    assert "not begun" in guide(root, monkeypatch, "status").output


def test_what_was_called_and_compared_is_named_and_none_is_no_surprise_where_it_may_come(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    test = "from answer import answer\n\n\ndef test_task_1_{0}():\n    {1} = answer.double(3)\n    assert {2} == [6, 6]\n\n\n"
    helper = "def doubled(x):\n    return answer.double(x)\n\n\ndef test_task_1_helps():\n    assert doubled(4).parts == [8]\n"
    write(root / TESTS, test.format("parts", "got", "got.parts") + helper)
    answer_double(root, "from types import SimpleNamespace\n    return SimpleNamespace(parts=[6, 7])")
    said = [" ".join(line.split()) for line in guide(root, monkeypatch, "test", "1", "1", "1").output.splitlines()]
    assert said[said.index("got.parts:") + 1] == "yours 6, 7"
    assert said[said.index("called doubled(4)") + 1] == "checked doubled(4).parts == [8]", "a helper that calls the answer"
    write(root / TESTS, test.format("none", "mine", "mine"))
    edit(root / NUMBERS, "return SimpleNamespace(parts=[6, 7])", "return None")
    assert "is a `return` missing?" in guide(root, monkeypatch, "test", "1", "1", "1").output
    write(root / TESTS, "from answer import answer\n\n\ndef test_task_1_adds():\n    assert sum(answer.double(3)) == 6\n")
    assert "is a `return` missing?" in guide(root, monkeypatch, "test", "1", "1", "1").output
    edit(root / NUMBERS, "def double(x: int) -> int", "def double(x: int) -> int | None")
    assert "is a `return` missing?" not in guide(root, monkeypatch, "test", "1", "1", "1").output


def test_a_terminal_without_unicode_gets_plain_signs(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = Failure("wrong", "2·x, not √x, for you, 猫", picture=("■·+",))

    def fail(root: Path, run: Run, *rest: object) -> None:
        run.tests = ["tests/week1/test_day1_doubling.py::test_task_1_doubles"]
        run.results = {run.tests[0]: Ended(run.tests[0], "failed", "", failure)}

    monkeypatch.setattr("tiny_llm_kit.cli.course.test.run_tests", fail)
    done = guide(root, monkeypatch, "test", "1", "1", charset="ascii")
    assert done.exit_code == 1, done.exception
    assert "x doubles" in done.output
    assert "#.+" in done.output
    assert "says  2.x, not sqrt x, for you, ?" in done.output
    assert done.output.isascii()


def test_when_the_process_dies_the_tests_that_are_left_run_in_another(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.course.guided_run.ENOUGH", 2)
    write(root / TESTS, DYING)
    answer_double(root, "import os\n    if x == 1:\n        os._exit(0)\n    return 2 * x")
    body = "import os, signal\n    if start:\n        os.kill(os.getpid(), signal.SIGSEGV)\n    return iter(())"
    edit(root / NUMBERS, COUNT_STUB, body)
    done = guide(root, monkeypatch, "test", "1", "1")
    assert done.exit_code == 1, done.output
    said = " ".join(done.output.split())
    assert "2 of 3 pass" in said, "the tests before and after the one that died"
    assert "doubles [1] crashed in this test, the process ended with exit code 0: does something call os._exit?" in said
    assert said.count("in this test, the process crashed (SIGSEGV)") == 1, "equal crashes are folded"
    assert "and 1 more test fails the same way" in said
    assert "where count_down (src/tiny_llm/numbers.py:" in said
    assert "2 tests of this task not run: 2 tests of this task crashed or never ended" in said


def test_a_loop_ends_with_a_message_and_the_rest_of_the_results(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_double(root, "while True:\n        pass")
    edit(root / NUMBERS, COUNT_STUB, COUNT_ANSWER)
    monkeypatch.setenv("PYTEST_PLUGINS", "pytest_timeout")
    done = guide(root, monkeypatch, "test", "1", "1", "--timeout", "1")
    said = " ".join(done.output.split())
    assert "endless this had not ended after 1 s. What was running: double (src/tiny_llm/numbers.py:" in said, done.output
    assert "1 of 1 pass" in said, done.output


def test_an_assert_without_a_message_is_not_told_twice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_double(root, "return x + 1")
    write(root / TESTS, "from answer import answer\n\n\ndef test_task_1_doubles():\n    assert answer.double(3) == 6\n")
    done = guide(root, monkeypatch, "test", "1", "1", "1")
    assert "got 4 expected 6" in " ".join(done.output.split()), done.output
    assert "assert" not in done.output, "got and expected have said it"


def test_a_missing_return_a_flood_and_an_interrupt_of_the_answer_are_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = "from answer import answer\n\n\ndef test_task_1_doubles():\n    got, want = answer.double(3), 6\n"
    write(
        root / TESTS, f"{test}    assert got == want, 'twice'\n\n\ndef test_task_1_again():\n    assert answer.double(2) == 4\n"
    )
    answer_double(root, flood := "for i in range(99):\n        print('line', i, 'y' * 999)")
    said = guide(root, monkeypatch, "test", "1", "1").output
    assert "None: is a `return` missing?" in said
    assert "line 98" in said
    assert said.count("line 9") < 20, "the end of what was printed"
    assert said.count("y" * 50) < 20, "and the beginning of each line"
    edit(root / NUMBERS, flood, "raise KeyboardInterrupt")
    said = " ".join(guide(root, monkeypatch, "test", "1", "1").output.split())
    assert "The tests were ended before 2 of them had run" in said


class Silence:
    def collected(self, tests: object) -> None: ...
    def began(self, test: str) -> None: ...
    def ended(self, result: Ended) -> None: ...


def test_an_import_that_never_ends_is_stopped(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    monkeypatch.setattr("tiny_llm_kit.course.stuck.LOADING", 0.8)
    write(root / "src/tiny_llm/__init__.py", "while True:\n    pass\n")
    run = Run()
    run_tests(root, run, [TESTS], "tiny_llm", Silence(), timeout=0.8)
    assert not run.passed
    (failure,) = run.unimportable
    assert "before the first test, nothing happened for" in failure.why


def test_a_package_that_cannot_be_imported_names_the_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / NUMBERS, DOUBLE := "def double(x: int)", f"x = = 1\n{DOUBLE}")
    done = guide(root, monkeypatch, "test", "1", "1")
    assert done.exit_code == 1
    assert "tiny_llm cannot be imported" in done.output
    assert "src/tiny_llm/numbers.py" in done.output
    assert "SyntaxError" in done.output
    assert "✗ src/tiny_llm/numbers.py:" in guide(root, monkeypatch, "status").output


def test_an_answer_that_uses_the_reference_does_not_count(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_double(root, "from tiny_llm_ref import double\n    return double(x)")
    done = guide(root, monkeypatch, "test", "1", "1", "1")
    assert done.exit_code == 1
    assert "the answer uses the reference, so this run does not count" in done.output
    assert not (root / ".course/results.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["9", "1"], "there is no week 9 day 1"),
        (["1"], "which day of week 1?"),
        (["2", "6"], "Week 2 Day 6: Batching is planned"),
        (["1", "1", "7"], "has no task 7"),
        (["1", "1", "--solution", "nobody"], "there is no package 'nobody'"),
        (["one"], "is not a valid integer"),
    ],
)
def test_what_does_not_exist_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    done = guide(root, monkeypatch, "test", *arguments)
    assert done.exit_code == 2
    assert message in done.output
