"""The map of the course, the mark on its tasks, and the runner of a day's tests."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from kit.small_course import (
    COURSE,
    WAITING_TEST,
    edit,
    is_gone,
    run_command,
    start_command,
    wait_until,
    write,
    write_small_course,
)
from tiny_llm_kit.cli.test import main
from tiny_llm_kit.course.course_map import Course, find_root, load_course, solution_package, task, task_number

TASKS = 'tasks = ["double", "count down"]'


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A course in which the learner has written `double` and nothing else."""
    root = write_small_course(tmp_path_factory.mktemp("course"))
    assert run_command(root, "skeleton").returncode == 0
    learner = root / "src/tiny_llm/numbers.py"
    line = next(line for line in learner.read_text().splitlines() if "raise" in line)
    edit(learner, line, "    return x + x")
    return root


def load(tmp_path: Path, text: str) -> Course:
    write(tmp_path / "course.toml", text)
    return load_course(tmp_path)


def test_reads_weeks_days_and_tasks(tmp_path: Path) -> None:
    course = load(tmp_path, COURSE)
    day = course.find_day(1, 1)
    assert str(day) == "Week 1 Day 1: Doubling"
    assert (day.chapter, day.tests, day.modules) == (
        "book/src/doubling.md",
        "tests/week1/test_day1_doubling.py",
        ("numbers.py",),
    )
    assert str(day.tasks[1]) == str(course.find_task(1, 1, 2)) == "Week 1 Day 1, task 2: count down"
    assert [(found.week, found.number, found.planned) for found in course.days] == [
        (1, 1, False),
        (1, 2, False),
        (2, 6, True),
    ]


def test_a_chapter_may_have_several_pages(tmp_path: Path) -> None:
    course = load(tmp_path, COURSE.replace(TASKS, f'{TASKS}\n  more_pages = ["book/src/more.md"]'))
    assert course.find_day(1, 1).pages == ("book/src/doubling.md", "book/src/more.md")
    assert course.find_day(1, 2).pages == ("book/src/shapes.md",)


def test_an_unknown_day_is_answered_with_those_there_are(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no week 3 day 1") as caught:
        load(tmp_path, COURSE).find_day(3, 1)
    assert "   1    2  Shapes\n   2    6  Batching  (planned)" in str(caught.value)
    with pytest.raises(ValueError, match=r"Week 1 Day 2: Shapes has no task 2"):
        load(tmp_path, COURSE).find_task(1, 2, 2)


@pytest.mark.parametrize(
    ("find", "replace", "message"),
    [
        ('title = "Doubling"\n', "", "week 1 day 1 lacks title"),
        ("tests =", "test =", "week 1 day 1 has test,"),
        ('chapter = "book/src/doubling.md"\n', "", "week 1 day 1 lacks chapter"),
        ("number = 2\n  title", "number = 1\n  title", r"the days of week 1 are numbered \[1, 1\]"),
        ("number = 6", 'number = "6"', "week 2 day 6: `number` is '6', but should be of type int"),
        (TASKS, "tasks = []", "week 1 day 1 has tests but no tasks"),
        (TASKS, "tasks = [1]", "lists of strings"),
        (TASKS, f"{TASKS}\n  more_pages = [1]", "lists of strings"),
        (
            TASKS,
            f'{TASKS}\n  more_pages = "book/src/more.md"',
            "`more_pages` is 'book/src/more.md', but",
        ),
        (TASKS, f"{TASKS}\n  order = [2]", r"week 1 day 1: `order` is \[2\], but should hold each of \[1, 2\] once"),
        (TASKS, f"{TASKS}\n  order = [2, 1, 2]", "each of"),
        (TASKS, f'{TASKS}\n  order = [2, "1"]', "each of"),
        (TASKS, f"{TASKS}\n  order = 2", "`order` is 2, but should be of type list"),
        (TASKS, f'{TASKS}\n  parts.3 = ["plan"]', r"`parts.3` is \['plan'\], but should be a list of texts"),
        (TASKS, f"{TASKS}\n  parts.2 = [1]", r"`parts.2` is \[1\]"),
        (TASKS, f'{TASKS}\n  needs = ["one"]', "week 1 day 1: `needs` holds 'one', but should name days as"),
        (TASKS, f"{TASKS}\n  needs = [1.2]", "`needs` holds 1.2"),
        (TASKS, f'{TASKS}\n  needs = ["1.2"]', "week 1 day 1: `needs` names 1.2, which is no earlier day"),
        ("[[week]]", "[[week]", "course.toml: "),
    ],
)
def test_a_wrong_map_is_refused_with_the_place(tmp_path: Path, find: str, replace: str, message: str) -> None:
    assert find in COURSE
    with pytest.raises(ValueError, match=message):
        load(tmp_path, COURSE.replace(find, replace))


def test_a_day_names_the_days_that_it_builds_on(tmp_path: Path) -> None:
    later = 'title = "Batching"'
    course = load(tmp_path, COURSE.replace(later, f'{later}\n  needs = ["1.1", "1.2"]'))
    assert course.find_day(2, 6).needs == ((1, 1), (1, 2))
    assert course.find_day(1, 2).needs == ()


@pytest.mark.parametrize(
    ("test", "number"),
    [
        ("test_task_3_softmax", 3),
        ("test_task_12_softmax[2-test_task_1_]", 12),
        ("tests/week1/test_day1_attention.py::test_task_2_softmax[x]", 2),
        ("tests/week1/test_task_7_x/test_a.py::TestSoftmax::test_task_4_softmax", 4),
        ("tests/kit/test_a.py::test_another_test_task_1_", 0),
        ("test_softmax", 0),
    ],
)
def test_a_tests_name_tells_its_task(test: str, number: int) -> None:
    assert task_number(test) == number


def test_tests_run_in_the_working_order_and_first_puts_some_before(tmp_path: Path) -> None:
    root = write_small_course(tmp_path)
    edit(root / "course.toml", TASKS, f'{TASKS}\n  order = [2, 1]\n  parts.2 = ["up", "down"]')
    edit(root / "course.toml", '"tests/week1/test_day1_doubling.py"', '"tests/week1/day1"')
    for name in ("test_task_2_down", "test_task_2_over", "test_task_2_up", "test_other"):
        write(root / f"tests/week1/day1/{name}.py", f"def {name}_works():\n    pass\n")
    (root / "tests/week1/test_day1_doubling.py").rename(root / "tests/week1/day1/test_both.py")
    assert order_of_tests(root) == [
        "2_up_works",
        "2_down_works",
        "2_counts",
        "2_over_works",
        "1_doubles",
        "other_works",
        "1_area",
    ]
    assert order_of_tests(root, "--first", "down")[:3] == ["2_down_works", "2_up_works", "2_counts"]


def order_of_tests(root: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "pytest", "tests/week1", "--solution", "ref", "--collect-only", "-q", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    return re.findall(r"::test_(?:task_)?(\w+)", done.stdout)


def test_the_map_of_this_project_can_be_read() -> None:
    assert load_course(find_root()).find_day(2, 6).title == "Continuous batching"


def test_task_marks_a_function_and_leaves_it_as_it_is() -> None:
    def answer(x: int) -> int:
        return x

    assert task(1, 2, 3)(answer) is answer
    assert vars(answer)["__task__"] == (1, 2, 3)


@pytest.mark.parametrize("thing", [int, property(lambda self: 1), staticmethod(len)])
def test_task_refuses_what_is_no_function(thing: object) -> None:
    with pytest.raises(TypeError, match="right above its def"):
        task(1, 1, 1)(thing)  # type: ignore[type-var]


def test_a_solution_is_ref_or_a_package_that_exists() -> None:
    assert solution_package("ref") == "tiny_llm_ref"
    assert solution_package("tiny_llm") == "tiny_llm"
    for name in ("no_such_package", "no-such", "", "json.decoder"):
        with pytest.raises(ValueError, match="there is no package"):
            solution_package(name)


def test_a_solution_that_is_not_there_is_not_advised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.course.course_map.REFERENCE", "no_reference")
    with pytest.raises(ValueError, match=r"^there is no package 'no_reference': give tiny_llm or a package in src$"):
        solution_package("ref")


@pytest.mark.parametrize("name", ["os", "json", "sys", "tests"])
def test_a_package_without_any_file_of_the_course_is_no_solution(name: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{name} is not an answer to this course, .* give ref or tiny_llm or a package in src"
    ):
        solution_package(name)


def test_the_runner_passes_pytests_arguments_on_and_its_exit_code_back(small: Path) -> None:
    done = run_command(small, "test", "--week", "1", "--day", "1", "--", "-k", "task_1", cwd=small.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout
    assert "solution: tiny_llm\n" in done.stdout
    assert "book/src/doubling.md" in done.stdout


def test_a_failing_run_names_the_task_in_full_for_each_test(small: Path) -> None:
    done = run_command(small, "test", "--week", "1")
    assert done.returncode == 1
    assert (
        "FAILED tests/week1/test_day1_doubling.py::test_task_2_counts - "
        "NotImplementedError: Week 1 Day 1, task 2: count down. Read book/src/doubling.md\n"
    ) in done.stdout
    assert 'NotImplementedError: Week 1 Day 2, task 1: the "area". Read book/src/shapes.md\n' in done.stdout
    assert "2 failed, 1 passed" in done.stdout


def test_the_runner_tests_the_reference(small: Path) -> None:
    done = run_command(small, "test", "--week=1", "--solution", "ref", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "which day?"),
        (["--day", "1"], "which day?"),
        (["--week", "9", "--day", "1"], "there is no week 9 day 1"),
        (["--week", "2", "--day", "6"], "Week 2 Day 6: Batching is planned"),
        (["--week", "2"], "week 2 has no day that can be run"),
        (["--week", "1", "--day", "1", "--solution", "nobody"], "there is no package 'nobody'"),
        (["--week", "1", "--day", "1", "--solution", "os"], "os is not an answer to this course"),
    ],
)
def test_the_runner_refuses_what_it_cannot_run(
    small: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr("tiny_llm_kit.cli.test.find_root", lambda: small)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert message in done.output
    assert "--solution" in arguments or "   1    1  Doubling" in done.output


def test_a_package_that_cannot_be_imported_is_reported_plainly(small: Path) -> None:
    write(small / "src/broken/__init__.py", "from . import numbers\n")
    write(small / "src/broken/numbers.py", "\nx = 1 / 0\n")
    done = run_command(small, "test", "--week", "1", "--day", "1", "--solution", "broken")
    assert done.returncode == 2
    assert done.stdout.count("ZeroDivisionError: division by zero") == 1
    assert 'broken/numbers.py", line 2' in done.stdout
    assert "importlib" not in done.stdout


@pytest.mark.parametrize(
    ("where", "replace", "told"),
    [
        ("__init__.py", "import os\nos._exit(0)\n", "before the first test"),
        ("__init__.py", "import atexit, os\natexit.register(os._exit, 0)\n", "1 failed"),
        (
            "numbers.py",
            "import os\ndef double(x):\n    os._exit(0)\n",
            "in tests/week1/test_day1_doubling.py::test_task_1_doubles",
        ),
        ("numbers.py", "import sys\nsys.exit(0)\n", "cannot be imported"),
    ],
    ids=["as it is imported", "when all is over", "in a test", "with sys.exit"],
)
def test_an_answer_that_ends_the_process_does_not_pass(tmp_path: Path, where: str, replace: str, told: str) -> None:
    root = write_small_course(tmp_path)
    assert run_command(root, "skeleton").returncode == 0
    path = root / "src/tiny_llm" / where
    path.write_text(replace if where == "numbers.py" else replace + path.read_text())
    if where == "numbers.py":
        write(root / "src/tiny_llm/__init__.py", "from .numbers import double as double\n")
    done = run_command(root, "test", "--week", "1", "--day", "1", "--", "-k", "task_1")
    assert done.returncode in (1, 2), "the exit code should say that the tests did not pass"
    assert told in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(("number", "exit_code", "stubborn"), [(signal.SIGINT, 1, False), (signal.SIGTERM, 143, True)])
def test_a_signal_ends_the_runner_and_its_tests(tmp_path: Path, number: signal.Signals, exit_code: int, stubborn: bool) -> None:
    root = write_small_course(tmp_path)
    write(root / "tests/week1/test_day1_doubling.py", WAITING_TEST.format(stubborn=stubborn))
    (root / "processes").mkdir()
    with start_command(root, "test", "--week", "1", "--day", "1", "--solution", "ref") as runner:
        wait_until(lambda: any((root / "processes").iterdir()))
        (path,) = (root / "processes").iterdir()
        tests, child = map(int, path.name.split())
        try:
            runner.send_signal(number)
            runner.wait(30)
            assert runner.returncode == exit_code
            wait_until(lambda: is_gone(tests))
        finally:
            os.kill(child, signal.SIGKILL)  # belongs to the test, and keeps the pipes open
        output, errors = runner.communicate(timeout=30)
    assert "Traceback" not in output + errors


def test_the_runner_takes_pytest_s_own_exit_codes(small: Path) -> None:
    assert run_command(small, "test", "--week", "1", "--", "-k", "nothing_at_all").returncode == 5, "no test was chosen"


@pytest.mark.parametrize(
    "answer",
    [
        "from tiny_llm_ref import *\n",
        "import tiny_llm_ref.numbers as theirs\ndouble = theirs.double\n",
        "import importlib\ndef double(x):\n    return importlib.import_module('tiny_llm_ref').double(x)\n",
        "try:\n    from tiny_llm_ref import double\nexcept ImportError:\n    def double(x):\n        return 2 * x\n",
        "import sys, importlib\nsys.modules[__name__] = importlib.import_module('tiny_llm_ref')\n",
    ],
    ids=["all", "a module", "in a function", "if possible", "in place of itself"],
)
def test_an_answer_that_imports_the_reference_is_told_so(tmp_path: Path, answer: str) -> None:
    root = write_small_course(tmp_path)
    write(root / "src/mine/__init__.py", "from .numbers import *\n")
    write(root / "src/mine/numbers.py", answer)
    done = run_command(root, "test", "--week", "1", "--day", "1", "--solution", "mine", "--", "-k", "task_1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "the answer uses the reference, so this run does not count" in done.stdout
    assert re.search(r"^\S*mine/numbers.py:\d+ imports tiny_llm_ref", done.stdout, re.MULTILINE), "the line should be named"


@pytest.mark.parametrize(
    "answer",
    [
        "import sys\ndouble = sys.modules['tiny_llm_ref'].double\n",
        "import sys\nsys.modules['mine'] = sys.modules['tiny_llm_ref']\n",
        "from tiny_llm_ref import numbers\nfrom tiny_llm_ref import double\n",
    ],
)
def test_an_answer_that_finds_the_reference_where_others_left_it_is_told_so(tmp_path: Path, answer: str) -> None:
    root = write_small_course(tmp_path)
    write(root / "src/mine/__init__.py", answer)
    write(root / "src/mine/numbers.py", "")
    edit(root / "tests/week1/test_day1_doubling.py", "from answer", "import tiny_llm_ref\nfrom answer")
    done = run_command(root, "test", "--week", "1", "--day", "1", "--solution", "mine", "--", "-k", "task_1")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "mine holds what belongs to tiny_llm_ref" in done.stdout


def test_tests_may_import_the_reference_beside_an_answer(small: Path, tmp_path: Path) -> None:
    """As those of the kit do: it is not the answer that imports it."""
    write(small / "tests/kit/test_both.py", "import tiny_llm_ref\nfrom answer import answer\ndef test_both():\n    pass\n")
    command = [sys.executable, "-m", "pytest", "tests/kit/test_both.py"]
    done = subprocess.run(command, cwd=small, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_pytest_alone_takes_a_solution_too(small: Path) -> None:
    command = [sys.executable, "-m", "pytest", "tests/week1", "--solution", "ref"]
    done = subprocess.run(command, cwd=small, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "solution: tiny_llm_ref" in done.stdout


def run_without_packages(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python with this project's code and without anything that is installed."""
    paths = {"PYTHONPATH": str(find_root() / "src")}
    return subprocess.run([sys.executable, "-S", *arguments], env=paths | environment, capture_output=True, text=True)


def test_missing_packages_are_one_line_with_the_remedy() -> None:
    done = run_without_packages("-m", "tiny_llm_kit.cli.test", "--week", "1")
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "pdm run setup" in done.stderr


def test_an_active_environment_that_pdm_took_is_named() -> None:
    prefix = run_without_packages("-c", "import sys; print(sys.prefix)").stdout.strip()
    done = run_without_packages("-m", "tiny_llm_kit.cli.test", "--week", "1", VIRTUAL_ENV=prefix)
    assert done.returncode == 2, done.stderr
    assert prefix in done.stderr
    assert "deactivate" in done.stderr
    assert "PDM_IGNORE_ACTIVE_VENV=1" in done.stderr
