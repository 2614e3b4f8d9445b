"""The skeleton: what is taken out of the reference, what stays, and that a learner's work is never lost."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kit.small_course import NUMBERS, SHAPES, edit, run_git, write, write_small_course
from metal_anywhere.source import find_stub
from tiny_llm_kit.cli.skeleton import main
from tiny_llm_kit.course.course_map import load_course
from tiny_llm_kit.course.skeleton import generate, remove_answers

LEARNER_NUMBERS = '''\
"""Numbers."""

from collections.abc import Iterator

from tiny_llm_kit.course import task


@task(1, 1, 1)
def double(x: int) -> int:
    """Twice `x`."""
    raise NotImplementedError("Week 1 Day 1, task 1: double. Read book/src/doubling.md")


@task(week=1, day=1, number=2)
def count_down(start: int) -> Iterator[int]:
    raise NotImplementedError("Week 1 Day 1, task 2: count down. Read book/src/doubling.md")


# Given: nobody has to write this.
def half(x: int) -> int:
    return x // 2
'''

LEARNER_DOUBLE = """\
// Given: one thread an element.
uint i = thread_position_in_grid.x;
if (i < n) {
    #error "Week 1 Day 1, task 1: double. Read book/src/doubling.md"
}
"""


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tiny_llm_kit.cli.skeleton.find_root", lambda: tmp_path)
    return write_small_course(tmp_path)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


def remove(root: Path, source: str, path: str = "numbers.py") -> str:
    return remove_answers(source, Path(path), load_course(root))[0]


def test_marked_bodies_go_and_all_else_stays(small: Path) -> None:
    skeleton = generate(small, load_course(small))
    assert skeleton.files[Path("numbers.py")].decode() == LEARNER_NUMBERS
    assert skeleton.files[Path("kernels/double.metal")].decode() == LEARNER_DOUBLE
    assert {str(task).partition(":")[0] for task in skeleton.tasks} == {
        "Week 1 Day 1, task 1",
        "Week 1 Day 1, task 2",
        "Week 1 Day 2, task 1",
    }


def test_a_marked_method_keeps_its_decorators_and_its_class(small: Path) -> None:
    head, _, _ = SHAPES.partition("        return")
    message = 'Week 1 Day 2, task 1: the \\"area\\". Read book/src/shapes.md'
    assert remove(small, SHAPES) == f'{head}        raise NotImplementedError("{message}")\n'


def test_comments_outside_a_marked_body_stay(small: Path) -> None:
    source = """\
class Doubler:
    # before
    @task(1, 1, 1)
    def double(self, x):  # beside
        # inside
        return 2 * x  # inside
        # inside

    # after

    size = 2  # later


# the end
"""
    text = remove(small, source)
    assert "inside" not in text
    assert [line for line in source.splitlines() if "inside" not in line] == [
        line for line in text.splitlines() if "raise" not in line
    ]


def test_a_metal_file_may_hold_several_regions(small: Path) -> None:
    source = """\
\t// @task(week=1, day=2, number=1)
\ta();

\tb();
\t// @end
// given: one @task after the other
// @task(week=1, day=1, number=2)
// @end
"""
    text, tasks = remove_answers(source, Path("kernels/a.metal"), load_course(small))
    assert (
        text
        == """\
\t#error "Week 1 Day 2, task 1: the \\"area\\". Read book/src/shapes.md"
// given: one @task after the other
#error "Week 1 Day 1, task 2: count down. Read book/src/doubling.md"
"""
    )
    assert sorted((task.day, task.number) for task in tasks) == [(1, 2), (2, 1)]
    assert find_stub(text) == 'Week 1 Day 2, task 1: the "area". Read book/src/shapes.md'
    assert find_stub(text.partition("\n")[2]) == "Week 1 Day 1, task 2: count down. Read book/src/doubling.md"


def test_the_tasks_of_metal_files_count(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/numbers.py", "@task(1, 1, 1)\n", "")
    assert "double" in {task.title for task in generate(small, load_course(small)).tasks}


@pytest.mark.parametrize(
    "text",
    ["", "y[i] = x[i];\n", '#if OLD\n#error "needs Metal 3"\n#endif\n', '// #error "Week 1 Day 1, task 1: double"\n'],
)
def test_a_written_kernel_is_no_stub(text: str) -> None:
    assert find_stub(text) is None


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x;\n// @task(week=1, day=1, number=3)\n// @end\n", r"a.metal:2: .* has no task 3"),
        ("// @task(week=5, day=1, number=1)\n// @end\n", "a.metal:1: there is no week 5 day 1"),
        ("// @task(week=1, day=1, number=1)\nx;\n", "a.metal:1: @task without an @end"),
        ("x;\n// @end\n", "a.metal:2: @end without a @task"),
        (
            "// @task(week=1, day=1, number=1)\n\n// @task(week=1, day=1, number=2)\n// @end\n// @end\n",
            "a.metal:3: @task inside of the region that begins in line 1",
        ),
        ("// @task(1, 1, 1)\n// @end\n", "a.metal:1: marks are `// @task"),
        ("// @task(week=1, day=1, number=1)\nx;  // @end\n", "a.metal:2: marks are .*alone on its line"),
        ("// @task(week=1, day=1, number=1)  the hard one\n// @end\n", "a.metal:1: marks are"),
        ("//@end\n", "a.metal:1: marks are"),
        ("// as in tiny_llm_ref\n", "a.metal:1: names tiny_llm_ref"),
    ],
)
def test_a_wrong_mark_in_a_metal_file_is_refused_with_the_place(small: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        remove(small, source, "a.metal")


def test_a_long_message_is_formatted(small: Path) -> None:
    edit(small / "course.toml", '"double"', f'"double {"and so on " * 9}"')
    text = generate(small, load_course(small)).files[Path("numbers.py")].decode()
    assert "    raise NotImplementedError(\n        " in text
    assert run().exit_code == 0
    command = [sys.executable, "-m", "ruff", "format", "--check", "src/tiny_llm"]
    done = subprocess.run(command, cwd=small, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("@task(1, 1, 1)\nclass Double:\n    pass\n", "numbers.py:1: @task on the class Double"),
        ("\n@task(1, 1, 3)\ndef triple(x):\n    return 3 * x\n", r"numbers.py:2: .* has no task 3"),
        ("@task(5, 1, 1)\ndef far(x):\n    return x\n", "numbers.py:1: there is no week 5 day 1"),
        ("@task(1, 1)\ndef double(x):\n    return x\n", "numbers.py:1: @task takes three plain numbers"),
        ("@task(1, 1, N)\ndef double(x):\n    return x\n", "numbers.py:1: @task takes three plain numbers"),
        ("x = 1\nfrom tiny_llm_ref.numbers import half\n", "numbers.py:2: names tiny_llm_ref"),
    ],
)
def test_a_wrong_mark_is_refused_with_the_place(small: Path, source: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        remove(small, source)


def test_a_wrong_mark_writes_nothing(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/shapes.py", "@task(1, 2, 1)", "@task(1, 2, 7)")
    done = run()
    assert done.exit_code == 2
    assert "src/tiny_llm_ref/shapes.py:13:" in done.output
    assert not (small / "src/tiny_llm").exists()


def test_check_lists_what_differs_and_for_whom_that_matters(small: Path) -> None:
    assert run().exit_code == 0
    assert run("--check").exit_code == 0
    edit(small / "src/tiny_llm/numbers.py", "raise NotImplementedError", "return 2 * x  #")
    (small / "src/tiny_llm/shapes.py").unlink()
    write(small / "src/tiny_llm/old.py", "")
    done = run("--check")
    assert done.exit_code == 1
    assert "differs: src/tiny_llm/numbers.py\n" in done.output
    assert "missing: src/tiny_llm/shapes.py\n" in done.output
    assert "stale: src/tiny_llm/old.py\n" in done.output
    assert "If you are working through the course, this is as it should be" in done.output


def test_work_that_is_not_committed_is_never_overwritten(small: Path) -> None:
    run()
    run_git(small, "init", "-q")
    run_git(small, "add", ".")
    run_git(small, "commit", "-qm", "skeleton")
    mine = LEARNER_NUMBERS.replace("raise NotImplementedError", "return 2 * x  #")
    write(small / "src/tiny_llm/numbers.py", mine)
    write(small / "src/tiny_llm/notes.py", "# my notes\n")

    done = run()
    assert done.exit_code == 2
    assert "  src/tiny_llm/notes.py\n  src/tiny_llm/numbers.py\n" in done.output
    assert (small / "src/tiny_llm/numbers.py").read_text() == mine

    for number in (1, 2):
        write(small / "src/tiny_llm/numbers.py", mine)
        assert run("--force").exit_code == 0
        assert (small / "src/tiny_llm/numbers.py").read_text() == LEARNER_NUMBERS
        assert (small / f"src/tiny_llm.bak-{number}/numbers.py").read_text() == mine
    assert (small / "src/tiny_llm.bak-1/notes.py").read_text() == "# my notes\n"
    assert run("--check").exit_code == 0


def test_what_is_committed_is_brought_up_to_date(small: Path) -> None:
    run()
    write(small / "src/tiny_llm/old.py", "")
    run_git(small, "init", "-q")
    run_git(small, "add", ".")
    run_git(small, "commit", "-qm", "skeleton")
    write(small / "src/tiny_llm_ref/numbers.py", NUMBERS.replace("Numbers.", "All numbers."))
    done = run()
    assert done.exit_code == 0, done.output
    assert (small / "src/tiny_llm/numbers.py").read_text().startswith('"""All numbers."""')
    assert not (small / "src/tiny_llm/old.py").exists()
    assert not (small / "src/tiny_llm.bak-1").exists()


def test_without_git_every_difference_counts_as_work(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run()
    write(small / "src/tiny_llm/numbers.py", "mine = 1\n")
    monkeypatch.setenv("PATH", "")
    assert run().exit_code == 2
    assert (small / "src/tiny_llm/numbers.py").read_text() == "mine = 1\n"
