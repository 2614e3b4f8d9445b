"""Mutants: which edits are made, which count as killed, and that a list of equivalent ones which has gone stale is noticed."""

import re
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kit.small_course import NUMBERS, WAITING_TEST, edit, is_gone, start_command, wait_until, write, write_small_course
from tiny_llm_kit.cli.mutants import main
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.mutants import Killers, load_known, run_mutant
from tiny_llm_kit.course.mutants import Result as MutantResult
from tiny_llm_kit.course.mutation import find_mutants, mutate

EQUIVALENT = """
week = 1
day = 1

[[equivalent]]
file = "numbers.py"
function = "count_down"
before = "while start > 0:"
after = "while start >= 0:"
reason = "it is not, but the list says so"
"""


DAY = "Week 1 Day 1: Doubling"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tiny_llm_kit.cli.mutants.find_root", lambda: tmp_path)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    write_small_course(tmp_path)
    return tmp_path


def mutants_of(body: str) -> list[str]:
    """What becomes of the one line of a function's body."""
    indented = "\n".join(f"    {line}" for line in body.splitlines())
    source = f'@task(1, 1, 1)\ndef f(x, y):\n    """Not 1 and not 2."""\n{indented}\n'
    found = mutate(source.encode(), "f.py", load_course(find_root()))
    for mutant in found:
        compile(mutant.text, mutant.file, "exec")
        assert mutant.text.decode().replace(mutant.after, mutant.before, 1) == source or "\n" in body
    assert len({mutant.text for mutant in found}) == len(found), "no mutant twice"
    return [mutant.after for mutant in found]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("x = y < f", {"x = y <= f", "x = y >= f", "pass"}),
        ("x = y == f", {"x = y != f", "pass"}),
        ("x = y not in f", {"x = y in f", "pass"}),
        ("x = y is None", {"x = y is not None", "pass"}),
        ("x = (y + f)", {"x = (y - f)", "pass"}),
        ("x -= y", {"x += y", "pass"}),
        ("x = 1", {"x = 2", "x = 0", "pass"}),
        ("x = y and f", {"x = y or f", "pass"}),
        ("x = not y", {"x = y", "pass"}),
        ("x = -y", {"x = y", "pass"}),
        ("x = True", {"x = False", "pass"}),
        ("return x", {"return None"}),
        ("return None", set()),
        ("return", {"pass"}),
        ("x = f(y, x, k=True)", {"x = f(x, y, k=True)", "x = f(y, x, k=False)", "pass"}),
        ("x = f(y, y)", {"pass"}),
        ("min(y, x)", {"max(y, x)", "pass"}),
        ("y.swapaxes(f, x)", {"pass"}),
        ("x.max()", {"x.min()", "pass"}),
        ("x = y[f:]", {"x = y[:]", "x = y[f + 1:]", "pass"}),
        ("x = y[: f or x]", {"x = y[:]", "x = y[: (f or x) - 1]", "x = y[: f and x]", "pass"}),
        ("x = y if f else x", {"x = y if not (f) else x", "pass"}),
        ("while x or y < f: break", {
            "while not (x) or y < f: break",
            "while x and y < f: break",
            "while x or y <= f: break",
            "while x or y >= f: break",
            "while x or y < f: continue",
        }),
        ("if not x: raise ValueError(f'{x - 1}' + 'no')", {
            "if x: raise ValueError(f'{x - 1}' + 'no')", "if not x: pass"
        }),
        ("assert x is not None, 1", set()),
        ("x: list[1] = zip(x, strict=True)", {"pass"}),
    ],
)  # fmt: skip
def test_each_kind_of_edit(body: str, expected: set[str]) -> None:
    assert set(mutants_of(body)) == expected


def test_an_edit_over_several_lines_reads_as_one() -> None:
    assert "x = f( y, f, )" not in mutants_of("x = f(\n    y,\n    f,\n)")
    assert mutants_of("f(\n    y,\n)") == ["pass"]


def test_only_answers_are_edited_and_within_their_bodies(small: Path) -> None:
    course = load_course(small)
    found = mutate(NUMBERS.encode(), "numbers.py", course)
    assert {mutant.function for mutant in found} == {"double", "count_down"}, "half is given"
    assert str(found[0]) == "numbers.py:12 double: return 2 * x  →  return None"
    (square,) = {mutant.function for mutant in find_mutants(small, course, course.find_day(1, 2))}
    assert square == "Square.area"
    assert {mutant.task.number for mutant in find_mutants(small, course, course.find_day(1, 1), task=2)} == {2}


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["--week", "1", "--day", "1", *arguments])


def test_survivors_are_shown_and_counted(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return x + max(x, 1)")
    done = run("--task", "1", "--verbose")
    assert done.exit_code == 1, done.output
    line = "numbers.py:12 double: return x + max(x, 1)  →  return x"
    # The suite doubles 4 and nothing else.
    survivors = [f"{line} + max(x, 0)", f"{line} + max(x, 2)"]
    assert sorted(re.findall(r"^survived: (.*)$", done.output, re.MULTILINE)) == survivors
    assert f"killed, by test_task_1_doubles: {line.removesuffix('x')}None" in done.output.splitlines()
    assert done.output.splitlines()[-1] == f"{DAY}: killed 3 of 5 (60.0%), 0 are known to be equivalent"


def test_a_sample_is_drawn_by_its_seed(small: Path) -> None:
    first, again, other = (run("--list", "--sample", "4", "--seed", seed).output for seed in ("1", "1", "2"))
    assert first == again != other
    assert len(first.splitlines()) == 4 + 1
    done = run("--task", "1", "--sample", "1")
    assert done.exit_code == 0, done.output
    assert done.output.splitlines()[-1] == f"{DAY}: killed 1 of 1 (100.0%), 0 are known to be equivalent"


def test_equivalent_mutants_are_not_run(small: Path) -> None:
    everyone = run("--list").output.splitlines()
    write(small / "tests/mutants/a.toml", EQUIVALENT)
    others = run("--list").output.splitlines()
    assert len(others) == len(everyone) - 1
    assert others[-1].endswith("besides 1 that are known to be equivalent")
    assert set(everyone) - set(others) == {"numbers.py:17 count_down: while start > 0:  →  while start >= 0:", everyone[-1]}


def test_a_survivor_is_shown_with_its_reason_and_counts(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "return x + max(x, 1)")
    before, after = "return x + max(x, 1)", "return x + max(x, 2)"
    entry = EQUIVALENT.replace("equivalent", "survivor").replace("count_down", "double")
    entry = entry.replace("while start > 0:", before).replace("while start >= 0:", after)
    write(small / "tests/mutants/a.toml", entry.replace("it is not, but the list says so", "the suite doubles 4 only"))
    done = run("--task", "1")
    assert f"survived: numbers.py:12 double: {before}  →  {after} (the suite doubles 4 only)" in done.output.splitlines()
    assert done.output.splitlines()[-1] == f"{DAY}: killed 3 of 5 (60.0%), 0 are known to be equivalent"


def test_without_a_day_it_takes_them_all(small: Path) -> None:
    done = CliRunner().invoke(main, ["--sample", "1"])
    assert done.exit_code == 0, done.output
    assert [line.partition(":")[0] for line in done.output.splitlines()[-2:]] == ["Week 1 Day 1", "Week 1 Day 2"]


def test_an_equivalent_that_describes_no_mutant_is_stale(small: Path) -> None:
    write(small / "tests/mutants/a.toml", EQUIVALENT.replace("start", "begin"))
    assert "stale, describes no mutant: numbers.py count_down: while begin > 0:  →  while begin >= 0:" in run("--list").output


def test_the_tests_that_killed_mutants_of_a_function_come_first_for_its_others(small: Path) -> None:
    course = load_course(small)
    double, count_down = (find_mutants(small, course, course.find_day(1, 1), task)[0] for task in (1, 2))
    killers = Killers()
    assert killers.of(double) == []
    for test in ("a.py::first", "a.py::second", "a.py::first", ""):
        killers.add(MutantResult(double, True, "", killer=test))
    assert killers.of(double) == ["a.py::first", "a.py::second"]
    assert killers.of(count_down) == []


@pytest.mark.parametrize(
    ("killers", "by"),
    [
        (["tests/week1/test_day1_doubling.py::test_task_2_counts"], "by test_task_1_doubles"),
        (["tests/week1/test_day1_doubling.py::test_of_old"], "by test_task_1_doubles"),
        (["tests/week1/test_day1_doubling.py::test_task_1_of_lately"], "by test_task_1_of_lately"),
    ],
    ids=["one that passes now", "one that is gone", "one that fails"],
)
def test_killers_that_do_not_kill_cost_nothing_but_time(small: Path, killers: list[str], by: str) -> None:
    suite = small / "tests/week1/test_day1_doubling.py"
    write(suite, f"{suite.read_text()}\n\ndef test_task_1_of_lately():\n    assert answer.double(1) == 2\n")
    course = load_course(small)
    mutant = find_mutants(small, course, course.find_day(1, 1), task=1)[0]
    assert run_mutant(small, course.find_day(1, 1), mutant, 60, killers).detail == by


def test_a_suite_that_never_ends_has_killed_its_mutant(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.cli.mutants._limit", lambda seconds, workers: 5.0)
    edit(small / "src/tiny_llm_ref/numbers.py", "return 2 * x", "while not x:\n        pass\n    return x * 2")
    done = run("--task", "1")
    assert done.exit_code == 0, done.output
    assert re.search(r"^killed, hang: the suite had not ended after 5 s: .* while not x:  →  while x:$", done.output, re.M)
    assert done.output.splitlines()[-1] == f"{DAY}: killed 4 of 4 (100.0%), 0 are known to be equivalent"


@pytest.mark.parametrize(
    ("path", "find", "replace", "message"),
    [
        ("src/tiny_llm_ref/numbers.py", "return 2 * x", "return 3 * x", "does not pass on the reference"),
        ("tests/week1/test_day1_doubling.py", "def test_task_1_doubles():", "def test_task_1_doubles():\n    import pytest\n"
         "    pytest.skip('no GPU')", "1 skipped: no GPU"),
        ("tests/mutants/a.toml", "reason", "because", "a.toml: .*because"),
        ("tests/mutants/a.toml", "week = 1", "", "a.toml: lacks 'week'"),
        ("course.toml", 'modules = ["numbers.py"]', "modules = []", "nothing to mutate"),
    ],
)  # fmt: skip
def test_where_mutants_would_prove_nothing_it_ends_with_2(
    small: Path, path: str, find: str, replace: str, message: str
) -> None:
    write(small / "tests/mutants/a.toml", EQUIVALENT)
    edit(small / path, find, replace)
    done = run("--sample", "1")
    assert done.exit_code == 2, done.output
    assert re.search(message, done.output)


def test_a_day_that_is_planned_or_unknown_is_refused(small: Path) -> None:
    for arguments in (
        ["--week", "2", "--day", "6"],
        ["--week", "5", "--day", "1"],
        ["--week", "1", "--day", "1", "--task", "7"],
        ["--week", "5"],
        ["--day", "1"],
        ["--week", "1", "--task", "1"],
    ):
        assert CliRunner().invoke(main, arguments).exit_code == 2


def test_ctrl_c_says_how_far_it_came(small: Path) -> None:
    begin = "def test_task_1_waits():\n"
    passes = "    from answer import answer\n    if answer.double(4) == 8:\n        return\n"
    waiting, _, _ = WAITING_TEST.format(stubborn=False).replace(begin, begin + passes).partition("def test_task_2_waits")
    write(small / "tests/week1/test_day1_doubling.py", waiting)
    (small / "processes").mkdir()
    with start_command(small, "mutants", "--week", "1", "--day", "1", "--task", "1") as command:
        wait_until(lambda: len(list((small / "processes").iterdir())) == 2)
        command.send_signal(signal.SIGINT)
        output, _ = command.communicate(timeout=30)
    assert command.returncode == 130, output
    assert output.splitlines()[-2:] == ["Interrupted; so far:", f"{DAY}: killed 0 of 0 (100.0%), 0 are known to be equivalent"]
    for pid in [pid for path in (small / "processes").iterdir() for pid in path.name.split()]:
        wait_until(lambda pid=pid: is_gone(int(pid)))


def test_the_lists_of_this_course_are_not_stale() -> None:
    course = load_course(find_root())
    for day in course.ready_days:
        known = load_known(find_root(), day)
        stale = known.find_stale(find_mutants(find_root(), course, day))
        assert not stale, f"tests/mutants lists what is no mutant of {day} any more: {', '.join(map(str, stale))}"
