"""Known wrong answers: which count as caught, and that one which has gone stale is noticed."""

import os
import py_compile
import subprocess
import sys
from pathlib import Path

import pytest

from kit.small_course import edit, write, write_small_course
from tiny_llm_kit.course.altered import Edit, copied_reference
from tiny_llm_kit.course.catchers import FILE, describe_changes, load_catchers, write_catchers
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.mistakes import Mistake, Verdict, load_mistakes, run_mistake

HEAD = '[[mistake]]\nname = "a"\nweek = 1\nday = 1\ntask = 1\n'


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    return write_small_course(tmp_path)


def mistakes_in(root: Path, text: str) -> list[Mistake]:
    write(root / "tests/mistakes/numbers.toml", text)
    return load_mistakes(root, load_course(root))


def run(root: Path, text: str, seconds: float = 60) -> list[Verdict]:
    course = load_course(root)
    return [run_mistake(root, course, mistake, seconds=seconds) for mistake in mistakes_in(root, text)]


def entry(find: str, replace: str, more: str = "") -> str:
    return f"{HEAD}file = 'numbers.py'\nfind = '{find}'\nreplace = '{replace}'\n{more}\n"


@pytest.mark.parametrize("prefix", ["", "elsewhere"])
def test_bytecode_of_the_reference_is_used_but_not_that_of_a_file_that_changed(
    small: Path, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    place = str(small / prefix) if prefix else ""
    monkeypatch.setattr(sys, "pycache_prefix", place or None)
    monkeypatch.setenv("PYTHONPYCACHEPREFIX", place)
    reference = small / "src/tiny_llm_ref"
    for path in reference.glob("*.py"):
        py_compile.compile(str(path))
    with copied_reference(small, "numbers_copy") as package:
        folder = Path(place, *package.parts[1:]) if place else package / "__pycache__"
        compiled = {path.name.partition(".")[0] for path in folder.glob("*.pyc")}
        before = (package / "numbers.py").stat()
        Edit("numbers.py", "2 * x", "3 * x").apply(package)
        os.utime(package / "numbers.py", ns=(before.st_atime_ns, before.st_mtime_ns))  # written in the same second
        command = [sys.executable, "-c", "from numbers_copy.numbers import double; print(double(4))"]
        environment = os.environ | {"PYTHONPATH": f"{package.parent}{os.pathsep}{find_root() / 'src'}"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "numbers" in compiled
    assert done.stdout == "12\n", done.stderr


def test_a_failing_test_catches_and_nothing_else_does(small: Path) -> None:
    caught, missed, broken = run(
        small,
        entry("2 * x", "3 * x")
        + entry("return 2 * x", "return x * 2")
        + entry("def double(x: int) -> int:", "def double(x: unknown) -> int:"),
    )
    assert (caught.caught, caught.detail) == (True, "caught by test_task_1_doubles")
    assert (missed.caught, missed.detail) == (False, "not caught: every test of its task passed")
    assert not broken.caught
    assert broken.detail.startswith("the suite could not run (exit code 2)")
    assert "NameError" in broken.detail
    assert "2 * x" in (small / "src/tiny_llm_ref/numbers.py").read_text()


def test_the_tests_of_its_own_task_have_to_catch_it(small: Path) -> None:
    task_2 = HEAD.replace("task = 1", "task = 2")
    edits = """edits = [
        { file = "numbers.py", find = "2 * x", replace = "3 * x" },
        { file = "numbers.py", find = "start -= 1", replace = "start -= 2" },
    ]
    """
    both, other = run(small, task_2 + edits + entry("2 * x", "3 * x").replace("task = 1", "task = 2"))
    assert (both.caught, both.detail) == (True, "caught by test_task_2_counts")
    assert (other.caught, other.detail) == (False, "not caught: every test of its task passed")


def test_a_suite_that_does_not_end_has_caught_nothing(small: Path) -> None:
    (verdict,) = run(small, entry("start -= 1", "start += 0").replace("task = 1", "task = 2"), seconds=4)
    assert verdict.detail == "hang: the suite had not ended after 4 s"
    assert not verdict.caught


def test_a_mistake_that_no_longer_applies_is_stale(small: Path) -> None:
    absent, twice, no_file = run(
        small,
        entry("7 * x", "8 * x") + entry("start", "begin") + entry("a", "b").replace("numbers.py", "gone.py"),
    )
    broken = run(small, entry("2 * x", "2 * ("))[0]
    assert broken.detail.startswith("stale: numbers.py is not Python any more: "), broken.detail
    assert absent.detail == "stale: numbers.py holds '7 * x' 0 times, not 1"
    assert twice.detail == "stale: numbers.py holds 'start' 4 times, not 1"
    assert no_file.detail == "stale: the reference has no gone.py"
    assert not any(verdict.caught for verdict in (absent, twice, no_file, broken))


def test_several_edits_make_one_mistake(small: Path) -> None:
    edits = """edits = [
        { file = "numbers.py", find = "start", replace = "begin", count = 4 },
        { file = "numbers.py", find = "yield begin", replace = "yield 2 * begin" },
    ]
    """
    (verdict,) = run(small, HEAD.replace("task = 1", "task = 2") + edits)
    assert verdict.detail == "caught by test_task_2_counts"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD, "numbers.toml: mistake 'a': .*missing"),
        (entry("x", "y").replace("task = 1\n", ""), "mistake 'a': lacks 'task'"),
        (entry("x", "y").replace("task = 1", "task = 9"), "mistake 'a': .* has no task 9"),
        (entry("x", "y", "hang = true"), "mistake 'a': .*unexpected keyword argument 'hang'"),
        (entry("x", "y", "edits = []"), "mistake 'a' has both `edits` and file, find, replace"),
        ("[[mistake]", "numbers.toml: "),
    ],
)
def test_a_wrong_entry_is_refused_with_the_place(small: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mistakes_in(small, text)


def test_a_mistake_on_a_planned_day_is_refused(small: Path) -> None:
    edit(small / "course.toml", 'title = "Batching"', 'title = "Batching"\n  tasks = ["request"]')
    with pytest.raises(ValueError, match="its day has no tests yet"):
        mistakes_in(small, entry("x", "y").replace("week = 1\nday = 1", "week = 2\nday = 6"))


NUMBERS = "tests/week1/test_day1_doubling.py"


def run_with(root: Path, catcher: str, task: int = 1) -> Verdict:
    """A mistake in task 1 that both of its tests notice."""
    edit(
        root / NUMBERS,
        "def test_task_2_counts",
        "def test_task_1_again():\n    test_task_1_doubles()\n\n\ndef test_task_2_counts",
    )
    (mistake,) = mistakes_in(root, entry("2 * x", "3 * x").replace("task = 1", f"task = {task}"))
    return run_mistake(root, load_course(root), mistake, catcher, seconds=60)


def test_the_test_that_caught_it_last_is_run_first(small: Path) -> None:
    verdict = run_with(small, f"{NUMBERS}::test_task_1_again")
    assert (verdict.caught, verdict.detail) == (True, "caught by test_task_1_again")
    assert verdict.catcher == f"{NUMBERS}::test_task_1_again"


@pytest.mark.parametrize(
    "catcher",
    [
        *("", NUMBERS, f"{NUMBERS}::test_task_1_was_renamed", f"{NUMBERS}::test_task_1_doubles[1]"),
        *("tests/week1/day2_shapes/test_area.py::test_task_1_area", "tests/gone.py::test_task_1_doubles", "/::test_task_1"),
        f"{NUMBERS}::test_task_2_counts",
    ],
)
def test_a_catcher_that_is_of_no_use_costs_no_more_than_time(small: Path, catcher: str) -> None:
    verdict = run_with(small, catcher)
    assert (verdict.caught, verdict.detail) == (True, "caught by test_task_1_doubles")
    assert verdict.catcher == f"{NUMBERS}::test_task_1_doubles"


def test_a_catcher_that_passes_by_now_leaves_it_to_the_others(small: Path) -> None:
    edit(small / NUMBERS, "def test_task_1_doubles", "def test_task_1_passes():\n    pass\n\n\ndef test_task_1_doubles")
    assert run_with(small, f"{NUMBERS}::test_task_1_passes").detail == "caught by test_task_1_doubles"


@pytest.mark.parametrize(
    "catcher", [f"{NUMBERS}::test_task_1_doubles", "tests/week1/day2_shapes/test_area.py::test_task_1_area"]
)
def test_a_catcher_of_another_task_or_day_catches_nothing(small: Path, catcher: str) -> None:
    verdict = run_with(small, catcher, task=2)
    assert (verdict.caught, verdict.detail) == (False, "not caught: every test of its task passed")
    assert verdict.catcher == ""


def test_catchers_are_kept_in_a_sorted_file(tmp_path: Path) -> None:
    assert load_catchers(tmp_path) == {}
    (tmp_path / FILE.parent).mkdir(parents=True)
    write_catchers(tmp_path, {"b": "tests/b.py::test_b", "a": "tests/a.py::test_a[é]"})
    assert load_catchers(tmp_path) == {"a": "tests/a.py::test_a[é]", "b": "tests/b.py::test_b"}
    names = [line.split('"')[1] for line in (tmp_path / FILE).read_text(encoding="utf-8").splitlines() if '"' in line]
    assert names == ["a", "b"]


@pytest.mark.parametrize("text", ["<<<<<<< HEAD\n{}", "[]", '{"a": 1}', '"a"', ""])
def test_a_damaged_file_of_catchers_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    write(tmp_path / FILE, text)
    with pytest.raises(ValueError, match=r"tests/mistakes/catchers.json.*Delete it: --update-catchers"):
        load_catchers(tmp_path)


def test_changes_are_counted() -> None:
    assert describe_changes({"a": "x", "b": "x", "c": "x"}, {"a": "x", "b": "y", "d": "x"}) == (
        "1 new, 1 changed, 1 of mistakes that are gone"
    )
    assert describe_changes({"a": "x"}, {"a": "x"}) == ""
