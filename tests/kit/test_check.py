"""`pdm run check`: what it accepts, and that each thing it is there to find is found."""

import os
import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from kit.small_course import WAITING_TEST, edit, is_gone, run_command, start_command, wait_until, write, write_checked_course
from tiny_llm_kit.cli.check import main
from tiny_llm_kit.course.catchers import FILE, load_catchers, write_catchers
from tiny_llm_kit.course.consistency import find_contradictions, judge_stub
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.skeleton import generate
from tiny_llm_kit.course.suite import Outcome, TestResult


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_checked_course(tmp_path, monkeypatch)


def step_words(output: str) -> dict[str, str]:
    return {name: word for word, name in re.findall(r"^(ok|failed) +(\w+) ", output, re.MULTILINE)}


def test_a_course_that_holds_together_passes(small: Path) -> None:
    done = run_command(small, "check")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(step_words(done.stdout).values()) == {"ok"}
    assert "adds (week 1 day 1): accepted: Adds instead of multiplying.\n" in done.stdout
    assert "one too many (week 1 day 1, task 1): caught by test_task_1_doubles\n" in done.stdout
    # six steps that count as one, 2 tests of the kit and of Metal, 3 of the days on the reference, 3 on the skeleton,
    # 1 variant, 2 mistakes
    assert done.stdout.splitlines()[-1] == "17 passed, 0 failed"


def test_every_step_that_fails_is_reported_and_the_others_still_run(small: Path) -> None:
    write(small / "tests/kit/test_kit.py", "import os\ndef test_kit():\n    assert 1 + 1 == 3\n")
    write(small / "tests/mistakes/numbers.toml", "mistake = [{ name = 'a' }]")
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return 3 * str(x)")
    edit(small / "tests/variants/adds/numbers.py", "double", "triple")
    edit(small / "src/tiny_llm/numbers.py", "x // 2", "x / 2")
    (small / "book/src/shapes.md").unlink()
    done = run_command(small, "check")
    assert done.returncode == 1, done.stdout + done.stderr
    words = step_words(done.stdout)
    assert words.pop("stubs") == "ok"
    words.pop("replicas", None)  # needs Ray, which may not be there
    assert len(words) == 10
    assert set(words.values()) == {"failed"}
    assert "F401" in done.stdout
    assert "Incompatible return value type" in done.stdout
    assert "differs: src/tiny_llm/numbers.py" in done.stdout
    assert "there is no book/src/shapes.md" in done.stdout
    assert "look at double" in done.stdout
    assert "adds (week 1 day 1): stale: numbers.py does not fit the reference: there is no triple" in done.stdout
    assert "mistake 'a': lacks" in done.stdout
    # failed: six steps that count as one, the test of the kit, double and the area that needs it, the variant, the list of
    # mistakes
    assert done.stdout.splitlines()[-1] == "5 passed, 11 failed"


def test_only_runs_the_steps_it_is_given(small: Path) -> None:
    done = CliRunner().invoke(main, ["--only", "map", "--only", "format"])
    assert step_words(done.output) == {"format": "ok", "map": "ok"}
    assert done.output.splitlines()[-1] == "2 passed, 0 failed"
    assert CliRunner().invoke(main, ["--only", "nothing"]).exit_code == 2
    assert "mistakes " in CliRunner().invoke(main, ["--list"]).output


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has batch jobs")
@pytest.mark.parametrize("step", ["kit", "mistakes"])
def test_what_runs_side_by_side_runs_as_batch_jobs(small: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.course.forks._idle", {})  # a process that other tests have left is no batch job
    only_here = "import os\nassert os.sched_getscheduler(0) == os.SCHED_BATCH, 'threads of MLX push each other aside'\n"
    for file in ("kit/test_kit.py", "week1/test_day1_doubling.py"):
        write(small / "tests" / file, only_here + (small / "tests" / file).read_text())
    before = os.sched_getscheduler(0)
    done = CliRunner().invoke(main, ["--only", step])
    assert done.output.splitlines()[-1] == "2 passed, 0 failed", done.output
    assert os.sched_getscheduler(0) == before, "the rest of this program is as it was"


def test_a_test_that_passes_on_the_skeleton_is_found(small: Path) -> None:
    edit(small / "tests/week1/test_day1_doubling.py", "answer.double(4) == 8", "1 == 1")
    done = CliRunner().invoke(main, ["--only", "stubs"])
    assert done.exit_code == 1
    assert "test_task_1_doubles: passed, but it should fail as long as nothing is written" in done.output
    assert done.output.splitlines()[-1] == "2 passed, 1 failed"


def test_a_suite_that_ends_its_process_has_not_passed(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "import os\n    os._exit(0)")
    done = CliRunner().invoke(main, ["--only", "reference"])
    assert done.exit_code == 1
    assert "ended in tests/week1/test_day1_doubling.py::test_task_1_doubles" in done.output


def test_a_mistake_that_ends_the_process_is_not_caught(small: Path) -> None:
    first, _, _ = (small / "tests/mistakes/numbers.toml").read_text().partition('[[mistake]]\nname = "steps of two"')
    write(small / "tests/mistakes/numbers.toml", first.replace('"2 * x + 1"', "\"__import__('os')._exit(0)\""))
    done = CliRunner().invoke(main, ["--only", "mistakes"])
    assert done.exit_code == 1
    assert "one too many (week 1 day 1, task 1): the suite could not run" in done.output


def test_the_tests_that_caught_the_mistakes_are_noted_when_asked_to(small: Path) -> None:
    tests = "tests/week1/test_day1_doubling.py"
    write_catchers(
        small, {"gone (week 1 day 1, task 1)": "x", "one too many (week 1 day 1, task 1)": f"{tests}::test_task_1_no"}
    )
    before = (small / FILE).read_text()
    done = CliRunner().invoke(main, ["--only", "mistakes"])
    assert done.exit_code == 0, done.output
    assert f"{FILE} is behind (1 new, 1 changed, 1 of mistakes that are gone)" in done.output
    assert (small / FILE).read_text() == before
    done = CliRunner().invoke(main, ["--only", "mistakes", "--update-catchers"])
    assert done.exit_code == 0, done.output
    assert f"{FILE}: 1 new, 1 changed, 1 of mistakes that are gone\n" in done.output
    assert load_catchers(small) == {
        "one too many (week 1 day 1, task 1)": f"{tests}::test_task_1_doubles",
        "steps of two (week 1 day 1, task 2)": f"{tests}::test_task_2_counts",
    }
    assert str(FILE) not in CliRunner().invoke(main, ["--only", "mistakes"]).output


def test_the_catcher_of_a_mistake_that_is_missed_now_is_kept(small: Path) -> None:
    noted = {"one too many (week 1 day 1, task 1)": "tests/week1/test_day1_doubling.py::test_task_1_doubles"}
    write_catchers(small, noted)
    edit(small / "tests/week1/test_day1_doubling.py", "answer.double(4) == 8", "True")
    assert CliRunner().invoke(main, ["--only", "mistakes", "--update-catchers"]).exit_code == 1
    assert noted.items() <= load_catchers(small).items()


def test_catchers_that_cannot_be_read_fail_the_step_and_are_left_alone(small: Path) -> None:
    write(small / FILE, "<<<<<<< HEAD")
    done = CliRunner().invoke(main, ["--only", "mistakes", "--update-catchers"])
    assert done.exit_code == 1
    assert "Delete it: --update-catchers writes a new one" in done.output
    assert (small / FILE).read_text() == "<<<<<<< HEAD"


def test_catchers_are_noted_by_a_run_of_the_mistakes_alone(small: Path) -> None:
    done = CliRunner().invoke(main, ["--only", "map", "--update-catchers"])
    assert done.exit_code == 2
    assert "--update-catchers needs the step mistakes" in done.output


@pytest.mark.parametrize(
    ("step", "suites", "number", "exit_code", "stubborn"),
    [
        ("reference", 1, signal.SIGTERM, 143, False),
        ("reference", 1, signal.SIGHUP, 129, True),
        ("mistakes", 2, signal.SIGTERM, 143, True),
        ("mistakes", 2, signal.SIGINT, 1, False),
    ],
)
def test_a_signal_ends_the_check_with_all_that_it_started(
    small: Path, step: str, suites: int, number: signal.Signals, exit_code: int, stubborn: bool
) -> None:
    write(small / "tests/week1/test_day1_doubling.py", WAITING_TEST.format(stubborn=stubborn))
    (small / "processes").mkdir()
    with start_command(small, "check", "--only", step) as check:
        wait_until(lambda: len(list((small / "processes").iterdir())) == suites)
        check.send_signal(number)
        output, _ = check.communicate(timeout=30)
    assert check.returncode == exit_code, output
    assert "Traceback" not in output
    for pid in [pid for path in (small / "processes").iterdir() for pid in path.name.split()]:
        wait_until(lambda pid=pid: is_gone(int(pid)))


def test_no_bytecode_is_left_where_none_is_wanted(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    monkeypatch.delenv("PYTHONPYCACHEPREFIX", raising=False)
    assert run_command(small, "check", "--only", "reference").returncode == 0
    assert not list(small.rglob("__pycache__"))


@pytest.mark.parametrize(("chosen", "threads"), [(None, "1"), ("3", "3")])
def test_suites_share_the_cores(small: Path, monkeypatch: pytest.MonkeyPatch, chosen: str | None, threads: str) -> None:
    """They run two at a time, so each gets one BLAS thread, unless the user has chosen."""
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OPENBLAS_NUM_THREADS", chosen)
    test = f"import os\ndef test_task_1_threads():\n    assert os.environ['OPENBLAS_NUM_THREADS'] == '{threads}'\n"
    write(small / "tests/week1/test_day1_doubling.py", test)
    done = CliRunner().invoke(main, ["--only", "reference"])
    assert done.exit_code == 0, done.output


DAY_2 = ("tests.week1.day2_shapes.test_area", "test_task_1_area")


@pytest.mark.parametrize(
    ("outcome", "reason", "problem", "warning"),
    [
        ("failed", "NotImplementedError: Week 1 Day 2, task 1: area", "", ""),
        ("failed", "NotImplementedError: Week 1 Day 1, task 1: double", "", "fails at Week 1 Day 1, task 1"),
        ("failed", "NotImplementedError: Week 2 Day 6, task 1: batching", "which comes later than Week 1 Day 2", ""),
        ("failed", "AttributeError: Square", "fails without naming a task.*AttributeError: Square", ""),
        ("skipped", "no GPU", "skipped, but it should fail", ""),
        ("skipped", "no C++ compiler: install one", "", ""),
        ("error", "no C++ compiler: install one", "error, but it should fail", ""),
        ("error", "Week 1 Day 2, task 1", "error, but it should fail", ""),
    ],
)
def test_a_test_on_the_skeleton_must_fail_and_name_a_task(
    small: Path, outcome: Outcome, reason: str, problem: str, warning: str
) -> None:
    found = judge_stub(TestResult(*DAY_2, outcome, reason), load_course(small))
    for text, expected in zip(found, (problem, warning), strict=True):
        assert bool(text) == bool(expected)
        assert re.search(expected, text)


@pytest.mark.parametrize(
    ("path", "find", "replace", "message"),
    [
        ("course.toml", '"numbers.py"', '"number.py"', "Day 1: Doubling: there is no src/tiny_llm_ref/number.py"),
        ("course.toml", "week1/day2_shapes", "week1/day3", "Day 2: Shapes: there is no tests/week1/day3"),
        ("course.toml", '"count down"', '"count down", "up"', "task 3: up: no function of the reference is marked"),
        ("tests/week1/day2_shapes/test_area.py", "test_task_1_area", "test_area", "has no test named test_task_1_"),
        ("tests/week1/day2_shapes/test_area.py", "test_task_1_area", "test_task_4_x", "tests a task 4"),
    ],
)
def test_a_map_that_does_not_fit_is_found(small: Path, path: str, find: str, replace: str, message: str) -> None:
    assert find_contradictions(small, load_course(small), generate(small, load_course(small))) == []
    edit(small / path, find, replace)
    course = load_course(small)
    assert message in "\n".join(find_contradictions(small, course, generate(small, course)))
