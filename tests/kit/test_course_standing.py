"""`pdm run course status`, `next` and `hint`, and what they remember between two commands."""

import json
from pathlib import Path

import pytest

from kit.guided_course import COUNT_ANSWER, COUNT_STUB, DOUBLE_STUB, NUMBERS, TESTS, answer_double, guide, write_guided_course
from kit.small_course import edit, write
from tiny_llm_kit.course.course_map import find_root, load_course, task_number
from tiny_llm_kit.course.guided_run import Ended, Run
from tiny_llm_kit.course.sections import find_section

AREA_TEST = "tests/week1/day2_shapes/test_area.py::test_task_1_area"
DAY_1 = {f"{TESTS}::test_task_1_doubles": "passed", f"{TESTS}::test_task_2_counts": "passed"}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_guided_course(tmp_path)


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the tests give, without running them: all pass unless this says otherwise."""
    given: dict[str, str] = {}

    def run_tests(
        root: Path, run: Run, tests: list[str], package: str, listener: object, arguments: list[str], *_: object
    ) -> None:
        day = DAY_1 if tests == [TESTS] else {AREA_TEST: "passed"}
        chosen = [test for test in day if "-k" not in arguments or f"task_{task_number(test)}_" in arguments[1]]
        run.tests = chosen
        run.results = {test: Ended(test, given.get(test, "passed")) for test in chosen if given.get(test) != "not run"}

    monkeypatch.setattr("tiny_llm_kit.cli.course.test.run_tests", run_tests)
    return given


def write_all(root: Path) -> None:
    answer_double(root, "return x + x")
    edit(root / NUMBERS, COUNT_STUB, "yield from range(start, 0, -1)")
    shapes = root / "src/tiny_llm/shapes.py"
    (stub,) = (line.strip() for line in shapes.read_text().splitlines() if "raise" in line)
    edit(shapes, stub, "return self.side**2")
    write(root / "src/tiny_llm/kernels/double.metal", "y[i] = x[i] + x[i];\n")


def states(output: str) -> list[str]:
    """What a status says of the tasks that it shows."""
    return [" ".join(line.split()) for line in output.splitlines() if " task " in line and "Next" not in line]


def test_a_fresh_clone_begins_with_the_first_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = guide(root, monkeypatch, "status")
    assert done.exit_code == 0, done.exception
    assert states(done.output) == ["task 1 double not begun", "task 2 count down not begun"]
    assert "Day 2  Shapes" in done.output
    assert "0 of 1" in done.output
    assert "Day 6  Batching" in done.output
    assert "planned" in done.output
    assert "Next: Week 1 Day 1, task 1: double" in done.output
    assert not (root / ".course").exists(), "looking leaves nothing behind"


def test_next_names_the_section_the_stubs_with_their_lines_and_the_command(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (root / "book/src/doubling.md").read_text().splitlines()
    source = (root / NUMBERS).read_text().splitlines()
    done = guide(root, monkeypatch, "next")
    rows = [" ".join(line.split()) for line in done.output.splitlines()]
    assert rows == [
        "Week 1 Day 1, task 1: double",
        f"read book/src/doubling.md:{page.index('### Task 1: double') + 1} (Task 1: double)",
        f"write double src/tiny_llm/numbers.py:{source.index('def double(x: int) -> int:') + 1}",
        "src/tiny_llm/kernels/double.metal:4",
        "test pdm run course test 1 1 1",
        "stuck? pdm run course hint 1 1 1",
    ]


def test_a_task_passes_until_its_file_changes(root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]) -> None:
    write_all(root)
    assert states(guide(root, monkeypatch, "status").output)[:2] == [
        "~ task 1 double not tested yet",
        "~ task 2 count down not tested yet",
    ]
    outcomes[f"{TESTS}::test_task_2_counts"] = "failed"
    assert guide(root, monkeypatch, "test", "1", "1").exit_code == 0, "no failure was handed over"
    assert states(guide(root, monkeypatch, "status").output)[:2] == [
        "✓ task 1 double passes",
        "✗ task 2 count down 1 of 1 tests fail",
    ]
    assert "Week 1 Day 1, task 2" in guide(root, monkeypatch, "next").output
    edit(root / NUMBERS, "x + x", "2 * x")
    assert states(guide(root, monkeypatch, "status").output)[:2] == [
        "~ task 1 double changed since the last test",
        "~ task 2 count down changed since the last test",
    ]


def test_what_another_day_does_not_use_leaves_its_results_as_they_are(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]
) -> None:
    write_all(root)
    guide(root, monkeypatch, "status", "--run")
    edit(root / "src/tiny_llm/shapes.py", "side**2", "side * self.side")
    assert states(guide(root, monkeypatch, "status", "--all").output) == [
        "✓ task 1 double passes",
        "✓ task 2 count down passes",
        '~ task 1 the "area" changed since the last test',
    ]
    edit(root / NUMBERS, "x + x", "2 * x")
    guide(root, monkeypatch, "test", "1", "1")
    edit(root / "src/tiny_llm/shapes.py", "side * self.side", "side**2")
    changed = '~ task 1 the "area" changed since the last test'
    assert states(guide(root, monkeypatch, "status", "--all").output)[2] == changed, "shapes.py imports numbers.py"


def test_one_task_alone_says_nothing_of_the_others(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]
) -> None:
    write_all(root)
    guide(root, monkeypatch, "test", "1", "1", "2")
    assert states(guide(root, monkeypatch, "status").output)[:2] == [
        "~ task 1 double not tested yet",
        "✓ task 2 count down passes",
    ]


def test_a_task_that_was_not_reached_keeps_its_state(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]
) -> None:
    write_all(root)
    outcomes |= {f"{TESTS}::test_task_1_doubles": "failed", f"{TESTS}::test_task_2_counts": "not run"}
    guide(root, monkeypatch, "test", "1", "1", "-x")
    assert states(guide(root, monkeypatch, "status").output)[:2] == [
        "✗ task 1 double 1 of 1 tests fail",
        "~ task 2 count down not tested yet",
    ]


def test_what_was_filled_in_from_the_reference_is_not_next(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_double(root, "# the secret\n    return 2 * x")
    edit(root / NUMBERS, COUNT_STUB, COUNT_ANSWER)
    (root / "src/tiny_llm/kernels/double.metal").write_text((root / "src/tiny_llm_ref/kernels/double.metal").read_text())
    done = guide(root, monkeypatch, "status", "--all")
    assert states(done.output)[:2] == [
        "✓ task 1 double the reference's, not tested",
        "✓ task 2 count down the reference's, not tested",
    ]
    assert "Next: Week 1 Day 2, task 1" in done.output


def test_everything_done(root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]) -> None:
    done = guide(root, monkeypatch, "status", "--run", "--solution", "ref")
    assert done.exit_code == 0, done.exception
    assert "Everything is done." in done.output
    assert "(3 of 3 tasks)" in done.output
    assert "Everything is done" in guide(root, monkeypatch, "next", "--solution", "ref").output
    assert "All days are done" in guide(root, monkeypatch, "test", "--solution", "ref").output
    assert "Next: Week 1 Day 1, task 1" in guide(root, monkeypatch, "status").output, "the learner has done nothing yet"


def test_without_a_day_the_next_one_is_tested(root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]) -> None:
    write_all(root)
    assert "Week 1 Day 1: Doubling" in guide(root, monkeypatch, "test").output
    assert "Week 1 Day 2: Shapes" in guide(root, monkeypatch, "test").output


def test_a_file_with_a_mistake_hides_only_itself(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(root / "src/tiny_llm/shapes.py", "class Square:", "class Square")
    done = guide(root, monkeypatch, "status", "--all")
    line = (root / "src/tiny_llm/shapes.py").read_text().splitlines().index("class Square") + 1
    assert f"✗ src/tiny_llm/shapes.py:{line}: expected ':'" in done.output
    assert "task 1 double" in " ".join(done.output.split())
    assert "Week 1 Day 1, task 1" in guide(root, monkeypatch, "next").output


@pytest.mark.parametrize("text", ["{", "[]", "\udcff", '{"tiny_llm": 3}', '{"tiny_llm": {"1.1": {"1": {"tests": [1]}}}}'])
def test_a_damaged_state_file_is_told_once_set_aside_and_not_fatal(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str], text: str
) -> None:
    path = root / ".course/results.json"
    path.parent.mkdir()
    path.write_bytes(text.encode(errors="surrogateescape"))
    first, second = guide(root, monkeypatch, "status"), guide(root, monkeypatch, "status")
    assert first.exit_code == second.exit_code == 0, first.exception
    assert "damaged" not in second.stderr
    if not text.startswith('{"'):  # a table in which something else stands where results should
        assert first.stderr.count("is damaged") == 1
        assert (root / ".course/results.json.damaged-1").read_bytes() == text.encode(errors="surrogateescape")
    write_all(root)
    assert guide(root, monkeypatch, "test", "1", "1").exit_code == 0
    assert json.loads(path.read_text())["tiny_llm"]["1.1"]["1"]["tests"] == {f"{TESTS}::test_task_1_doubles": "passed"}
    assert [path.name for path in (root / ".course").glob(".results*")] == [], "no unfinished file is left"


def test_a_state_that_cannot_be_written_is_told_and_not_fatal(
    root: Path, monkeypatch: pytest.MonkeyPatch, outcomes: dict[str, str]
) -> None:
    write_all(root)
    write(root / ".course", "a file where the folder should be")
    done = guide(root, monkeypatch, "test", "1", "1")
    assert done.exit_code == 0, done.exception
    assert ".course/results.json cannot be written" in done.stderr


def test_hints_come_one_by_one_from_gentle_to_plain(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, third, fourth = (guide(root, monkeypatch, "hint", "1", "1", "1").output for _ in range(4))
    assert "hint 1 of 3" in first
    assert "Add it.\n" in first
    assert "itself" not in first
    assert "More: pdm run course hint 1 1 1" in first
    assert "hint 2 of 3" in second
    assert "Add it.\n" not in second
    assert "return x + x" in third
    assert "pdm run course solution 1 1 1" in third
    assert fourth == third, "there is no fourth"


def test_hints_again_and_all(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "You have had no hint" in guide(root, monkeypatch, "hint", "1", "1", "1", "--again").output
    for _ in range(2):
        guide(root, monkeypatch, "hint", "1", "1", "1")
    again = guide(root, monkeypatch, "hint", "1", "1", "1", "--again").output
    assert "hint 1 of 3" in again
    assert "hint 2 of 3" in again
    assert "hint 3 of 3" not in again
    assert guide(root, monkeypatch, "hint", "1", "1", "1", "--all").output.count("hint ") >= 3
    assert "hint 3 of 3" in guide(root, monkeypatch, "hint", "1", "1", "1", "--again").output
    assert guide(root, monkeypatch, "hint", "1", "1", "1", "--all", "--again").exit_code == 2


def test_without_numbers_the_hint_is_of_the_next_task(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "Week 1 Day 1, task 1: double\n" in guide(root, monkeypatch, "hint").output
    answer_double(root)
    (root / "src/tiny_llm/kernels/double.metal").write_text((root / "src/tiny_llm_ref/kernels/double.metal").read_text())
    edit(root / NUMBERS, COUNT_STUB, COUNT_ANSWER)
    done = guide(root, monkeypatch, "hint")
    assert "Week 1 Day 2, task 1" in done.output, "the answers of day 1 are the reference's"
    assert "book/src/shapes.md" in done.output
    assert "No task is left" in guide(root, monkeypatch, "hint", "1", "1").output
    assert "which day of week 1?" in guide(root, monkeypatch, "hint", "1").output


def test_a_name_that_is_bound_again_further_down_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (root / NUMBERS).open("a") as file:
        file.write("\n\ndef mine(start):\n    return range(start, 0, -1)\n\n\ncount_down = mine\n")
    assert states(guide(root, monkeypatch, "status").output)[1] == "~ task 2 count down not tested yet"


def test_a_task_without_hints_leads_to_its_section(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = guide(root, monkeypatch, "hint", "1", "1", "2")
    assert done.exit_code == 0
    assert "has no hints" in done.output
    assert "book/src/doubling.md#task-2-count-down" in done.output


@pytest.mark.parametrize("state", ['{"1.1.1": "two"}', '{"1.1.1": 99}', '{"1.1.1": -1}', "{"])
def test_strange_counts_of_hints_do_no_harm(root: Path, monkeypatch: pytest.MonkeyPatch, state: str) -> None:
    write(root / ".course/hints.json", state)
    done = guide(root, monkeypatch, "hint", "1", "1", "1")
    assert done.exit_code == 0, done.exception
    assert "of 3" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(["1", "1", "9"], "has no task 9"), (["8", "1", "1"], "no week 8 day 1"), (["2", "6", "1"], "is planned")],
)
def test_hints_of_nothing_are_refused(root: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str) -> None:
    done = guide(root, monkeypatch, "hint", *arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_every_task_of_this_course_has_a_section() -> None:
    root = find_root()
    for day in load_course(root).ready_days:
        for task in day.tasks:
            section = find_section(root, day, task.number)
            assert section.heading.startswith(f"Task {task.number}: "), f"{task}: its chapter has no such section"
            assert section.anchor.startswith(f"task-{task.number}-")


def test_half_a_task_is_begun(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_double(root, "return x + x")
    assert DOUBLE_STUB not in (root / NUMBERS).read_text()
    assert states(guide(root, monkeypatch, "status").output)[0] == "~ task 1 double 1 of 2 functions written"
