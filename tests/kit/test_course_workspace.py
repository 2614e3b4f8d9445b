"""Beginning at a day, going back, and that no line of a learner is ever lost."""

import os
import random
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kit.small_course import edit, write, write_small_course
from tiny_llm_kit.cli.course import main
from tiny_llm_kit.course import backups
from tiny_llm_kit.course.answer_files import find_files
from tiny_llm_kit.course.course_map import Course, Task, find_root, load_course
from tiny_llm_kit.course.skeleton import generate, remove_answers, stub_file
from tiny_llm_kit.course.skeleton import write as write_skeleton
from tiny_llm_kit.course.suite import SuiteRun, TestResult
from tiny_llm_kit.course.swap import alone, interrupted_run
from tiny_llm_kit.course.task_tests import TaskOutcome, run_task_tests

DOUBLE = "    return x + x  # mine"
STUB = 'raise NotImplementedError("Week 1 Day 1, task 1: double. Read book/src/doubling.md")'


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_small_course(tmp_path_factory.mktemp("pristine") / "course")
    write_skeleton(root, generate(root, load_course(root)))
    return root


_stubs: dict[tuple[Path, bytes], str] = {}


def remembered_stub_file(root: Path, path: Path, course: Course) -> str:
    """`stub_file`, once for each text: it starts a formatter, which takes longer than all else here."""
    key = path, (root / "src/tiny_llm_ref" / path).read_bytes()
    if key not in _stubs:
        _stubs[key] = stub_file(root, path, course)
    return _stubs[key]


@pytest.fixture
def small(pristine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tiny_llm_kit.cli.course.opened.find_root", lambda: tmp_path)
    monkeypatch.setattr("tiny_llm_kit.course.task_tests.run_task_tests", lambda root, course, tasks: [])
    monkeypatch.setattr("tiny_llm_kit.course.answer_files.stub_file", remembered_stub_file)
    return shutil.copytree(pristine, tmp_path, dirs_exist_ok=True)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


class Killed(BaseException):
    """What no program can catch, as far as a test can have it."""


def run_to_its_end_or_death(*arguments: str) -> int:
    """The exit code; -9 if it was killed."""
    try:
        return run(*arguments).exit_code
    except Killed:
        return -9


def succeed(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return done.output


def refused(*arguments: str) -> str:
    done = run(*arguments)
    assert done.exit_code == 2, done.output
    return done.output


def package(root: Path) -> dict[str, bytes]:
    folder = root / "src/tiny_llm"
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def numbers(root: Path) -> Path:
    return root / "src/tiny_llm/numbers.py"


def write_double(root: Path) -> None:
    edit(numbers(root), f"    {STUB}", DOUBLE)


def names(root: Path) -> list[str]:
    return [backup.name for backup in backups.list_all(root)]


# start


def test_the_days_before_are_the_references_and_the_others_stay_stubs(small: Path) -> None:
    before = package(small)
    output = succeed("start", "1", "2")
    for name in ("numbers.py", "__init__.py"):
        assert package(small)[name] == (small / "src/tiny_llm_ref" / name).read_bytes()
    assert package(small)["shapes.py"] == before["shapes.py"]
    kernel = package(small)["kernels/double.metal"].decode()
    assert "2 * x[i];  // the secret" in kernel
    assert "@task" not in kernel
    assert "pdm run test --week 1 --day 2" in output
    assert "Week 1 Day 1: 3 functions" in output


def test_at_the_first_day_there_is_nothing_to_fill_in(small: Path) -> None:
    before = package(small)
    assert "nothing to fill in" in succeed("start", "1", "1")
    assert package(small) == before
    assert names(small) == []


def test_the_second_time_changes_nothing_and_makes_no_backup(small: Path) -> None:
    succeed("start", "1", "2")
    before = package(small)
    assert "nothing to fill in" in succeed("start", "1", "2")
    assert package(small) == before
    assert len(names(small)) == 1


def test_what_a_learner_wrote_stays_and_its_tests_are_tried(small: Path) -> None:
    write_double(small)
    output = succeed("start", "1", "2")
    assert DOUBLE in numbers(small).read_text()
    assert "while start > 0" in numbers(small).read_text()
    assert "Week 1 Day 1, task 1: double\n" in output.partition("kept")[2]
    assert "its tests fail" not in output


def test_what_a_learner_wrote_wrongly_is_named_and_can_be_replaced(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_double(small)
    edit(numbers(small), "x + x", "x + 1")

    def fail_all(root: Path, course: Course, tasks: Iterable[Task]) -> list[TaskOutcome]:
        return [TaskOutcome(task, SuiteRun(1, [TestResult("", f"{task.tests_begin}a", "failed", "")], "")) for task in tasks]

    monkeypatch.setattr("tiny_llm_kit.course.task_tests.run_task_tests", fail_all)
    assert "its tests fail: Week 1 Day 1, task 1: double" in succeed("start", "1", "2")
    succeed("start", "1", "2", "--replace")
    assert package(small)["numbers.py"] == (small / "src/tiny_llm_ref/numbers.py").read_bytes()
    assert b"x + 1" in backups.list_all(small)[-1].read(Path("src/tiny_llm/numbers.py"))


def test_work_on_the_day_itself_and_on_later_ones_is_never_touched(small: Path) -> None:
    path = small / "src/tiny_llm/shapes.py"
    path.write_text(re.sub("raise NotImpl.*", "return 3 * self.side - 2", path.read_text()) + "\nmine = 1\n")
    before = package(small)["shapes.py"]
    succeed("start", "1", "2", "--replace")
    assert package(small)["shapes.py"] == before


def test_files_that_are_gone_come_back(small: Path) -> None:
    before = package(small)
    shutil.rmtree(small / "src/tiny_llm")
    succeed("start", "1", "2")
    assert package(small).keys() == before.keys()
    assert package(small)["numbers.py"] == (small / "src/tiny_llm_ref/numbers.py").read_bytes()
    for name in ("__init__.py", "shapes.py"):
        assert package(small)[name] == before[name]


@pytest.mark.parametrize("gone", ["@task(1, 1, 1)\n", "# Given: nobody has to write this.\n"])
def test_marks_and_comments_may_be_gone(small: Path, gone: str) -> None:
    edit(numbers(small), gone, "")
    succeed("start", "1", "2")
    assert "return 2 * x" in numbers(small).read_text()


def test_imports_that_an_editor_took_out_come_back_with_the_answers(small: Path) -> None:
    edit(numbers(small), "from collections.abc import Iterator\n", "")
    edit(numbers(small), "def count_down(start: int) -> Iterator[int]:", "def count_down(start: int):")
    succeed("start", "1", "2")
    text = numbers(small).read_text()
    assert "from collections.abc import Iterator\n" in text
    compile(text, "numbers.py", "exec")


def test_a_given_helper_that_was_renamed_comes_back_with_the_answer_that_needs_it(small: Path) -> None:
    for folder in ("tiny_llm", "tiny_llm_ref"):
        edit(
            small / f"src/{folder}/numbers.py",
            "\n\n@task(1, 1, 1)",
            "\n\nTWO = 2\n\n\ndef twice(x):\n    return TWO * x\n\n\n@task(1, 1, 1)",
        )
    edit(small / "src/tiny_llm_ref/numbers.py", "    return 2 * x", "    return twice(x)")
    edit(numbers(small), "TWO = 2\n\n\ndef twice(x):\n    return TWO * x", "def zweimal(x):\n    return 2 * x")
    succeed("start", "1", "2")
    space: dict[str, Any] = {"__name__": "numbers"}
    exec(compile(numbers(small).read_text(), "numbers.py", "exec"), space)
    assert space["double"](4) == 8
    assert "def zweimal" in numbers(small).read_text()


def test_a_given_method_that_was_renamed_comes_back_with_the_answer_that_needs_it(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/shapes.py", "@task(1, 2, 1)", "@task(1, 1, 2)")
    edit(small / "src/tiny_llm_ref/shapes.py", "return self.side", "return self.width() * self.side")
    edit(
        small / "src/tiny_llm_ref/shapes.py", "    @property", "    def width(self) -> int:\n        return 1\n\n    @property"
    )
    succeed("start", "1", "2")
    space: dict[str, Any] = {"__name__": "shapes", "double": lambda x: 2 * x}
    text = (small / "src/tiny_llm/shapes.py").read_text().replace("from .numbers import double", "")
    exec(compile(text, "shapes.py", "exec"), space)
    assert space["Square"](3).area == 9


def test_an_older_attempt_that_stands_above_goes_with_the_answer(small: Path) -> None:
    before = package(small)
    edit(numbers(small), "@task(1, 1, 1)\n", f"@task(1, 1, 1)\ndef double(x):\n{DOUBLE}\n\n\n@task(1, 1, 1)\n")
    succeed("start", "1", "2")
    assert DOUBLE in numbers(small).read_text()
    succeed("reset", "1", "1")
    assert "def double(x):" not in numbers(small).read_text()
    compile(numbers(small).read_text(), "numbers.py", "exec")
    assert [line for line in numbers(small).read_text().splitlines() if line] == [
        line for line in before["numbers.py"].decode().splitlines() if line
    ]


def test_an_answer_that_a_learner_keeps_in_another_file_stays_in_force(small: Path) -> None:
    text = numbers(small).read_text()
    write(
        numbers(small),
        text[: text.index("@task(1, 1, 1)")] + "from .mine import double\n\n\n" + text[text.index("@task(week=1") :],
    )
    assert "Week 1 Day 1, task 1: double\n" in succeed("start", "1", "2").partition("kept")[2]
    assert "def double" not in numbers(small).read_text()
    assert "while start > 0" in numbers(small).read_text()


def test_a_function_that_was_removed_is_put_where_it_was(small: Path) -> None:
    text = numbers(small).read_text()
    start = text.index("@task(week=1")
    numbers(small).write_text(text[:start] + text[text.index("# Given") :])
    succeed("start", "1", "2")
    lines = numbers(small).read_text()
    assert lines.index("def double") < lines.index("def count_down") < lines.index("def half")
    compile(lines, "numbers.py", "exec")


def test_the_ends_of_lines_and_the_byte_order_mark_stay(small: Path) -> None:
    before = b"\xef\xbb\xbf" + numbers(small).read_bytes().replace(b"\n", b"\r\n")
    numbers(small).write_bytes(before)
    succeed("start", "1", "2")
    reference = (small / "src/tiny_llm_ref/numbers.py").read_bytes()
    assert numbers(small).read_bytes() == b"\xef\xbb\xbf" + reference.replace(b"\n", b"\r\n")


def test_another_indentation_stays(small: Path) -> None:
    edit(small / "src/tiny_llm_ref/shapes.py", "@task(1, 2, 1)", "@task(1, 1, 2)")
    path = small / "src/tiny_llm/shapes.py"
    path.write_text(path.read_text().replace("    ", "  "))
    succeed("start", "1", "2")
    compile(path.read_text(), "shapes.py", "exec")
    assert "\n  @property\n" in path.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x = 1\ndef double(x:\n", "src/tiny_llm/numbers.py:2:"),
        (b"x = 1\n\0", "src/tiny_llm/numbers.py:1:"),
        (b"# caf\xe9\n", "src/tiny_llm/numbers.py: this is not UTF-8"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_nothing_is_written(small: Path, content: bytes, message: str) -> None:
    numbers(small).write_bytes(content)
    before = package(small)
    assert message in refused("start", "1", "2")
    assert package(small) == before
    assert names(small) == []


def test_a_broken_file_of_a_later_day_is_in_nobodys_way(small: Path) -> None:
    write(small / "src/tiny_llm/shapes.py", "class Square(:\n")
    succeed("start", "1", "2")


@pytest.mark.parametrize(
    "command", [("start", "9", "1"), ("start", "2", "6"), ("reset", "1", "1", "7"), ("solution", "1", "3", "1")]
)
def test_what_is_not_in_the_course_is_refused(small: Path, command: tuple[str, ...]) -> None:
    assert "week" in refused(*command).lower()


@pytest.mark.parametrize("name", ["engine.py", "paged/fair_queue.py", "server/sampling.py", "kernels/matvec_simd.metal"])
def test_real_files_come_out_as_the_reference_has_them(name: str) -> None:
    root = find_root()
    course = load_course(root)
    file = next(file for file in find_files(root, course) if file.path == Path(name))
    stub = remove_answers(file.marked, file.path, course)[0]
    assert set(file.states(stub).values()) == {"stub"}
    assert file.replace(stub, file.parts, file.answer) == file.answer


# kernels


def test_a_kernel_that_is_written_stays(small: Path) -> None:
    path = small / "src/tiny_llm/kernels/double.metal"
    edit(path, '#error "Week 1 Day 1, task 1: double. Read book/src/doubling.md"', "y[i] = x[i] + x[i];")
    succeed("start", "1", "2")
    assert "x[i] + x[i]" in path.read_text()
    succeed("start", "1", "2", "--replace")
    assert "2 * x[i];  // the secret" in path.read_text()


def test_a_kernel_whose_given_lines_have_changed_can_still_be_filled_in(small: Path) -> None:
    path = small / "src/tiny_llm/kernels/double.metal"
    edit(path, "if (i < n)", "if (n > i)")
    succeed("start", "1", "2")
    assert "if (n > i)" in path.read_text()
    assert "the secret" in path.read_text()


# reset


def test_reset_of_a_task_leaves_the_others(small: Path) -> None:
    before = package(small)
    succeed("start", "1", "2")
    succeed("reset", "1", "1", "2")
    assert "return 2 * x" in numbers(small).read_text()
    succeed("reset", "1", "1", "1")
    assert package(small) == before
    assert "nothing to do" in succeed("reset", "1", "1")


def test_reset_of_a_day_keeps_what_is_given_and_helpers(small: Path) -> None:
    write_double(small)
    numbers(small).write_text(numbers(small).read_text() + "\n\ndef mine(x):\n    return x\n")
    succeed("reset", "1", "1")
    text = numbers(small).read_text()
    assert text.count(STUB) == 1
    assert "def mine(x):" in text


def test_comments_of_an_answer_go_with_it(small: Path) -> None:
    before = package(small)
    stub = 'raise NotImplementedError("Week 1 Day 1, task 2: count down. Read book/src/doubling.md")'
    edit(numbers(small), f"    {stub}\n", "    # my idea:\n    return iter(())\n\n    # or else:\n    #   a loop\n")
    succeed("reset", "1", "1")
    assert package(small) == before


def test_a_signature_that_was_changed_comes_back(small: Path) -> None:
    edit(numbers(small), "def double(x: int)", "def double(number: int)")
    succeed("reset", "1", "1", "1")
    assert "def double(x: int)" in numbers(small).read_text()


def test_a_broken_file_can_be_reset_as_a_whole(small: Path) -> None:
    before = package(small)
    numbers(small).write_text("def double(x:\n    my work\n")
    assert "numbers.py:1:" in refused("reset", "1", "1", "1")
    assert "made again, with all that was in it: src/tiny_llm/numbers.py" in succeed("reset", "1", "1")
    assert package(small) == before
    assert b"my work" in backups.list_all(small)[0].read(Path("src/tiny_llm/numbers.py"))


def test_a_line_that_gives_an_answer_another_meaning_is_named(small: Path) -> None:
    numbers(small).write_text(numbers(small).read_text() + "\n\ndef mine(x):\n    return x + x\n\n\ndouble = mine\n")
    place = f"  src/tiny_llm/numbers.py:{len(numbers(small).read_text().splitlines())}: double\n"
    output = succeed("reset", "1", "1", "1")
    assert "nothing to do" in output
    assert place in output
    assert place not in succeed("reset", "1", "1", "2")
    assert "Week 1 Day 1, task 1: double\n" in succeed("start", "1", "2").partition("kept")[2]
    output = succeed("start", "1", "2", "--replace")
    line = numbers(small).read_text().splitlines().index("double = mine") + 1
    assert f"  src/tiny_llm/numbers.py:{line}: double\n" in output


# restore


def test_restore_brings_back_every_file_and_can_be_undone(small: Path) -> None:
    assert "no backup yet" in succeed("restore")
    write_double(small)
    write(small / "src/tiny_llm/notes/day1.txt", "my notes\n")
    mine = package(small)
    succeed("start", "1", "2", "--replace")
    (small / "src/tiny_llm/notes/day1.txt").unlink()
    write(small / "src/tiny_llm/later.py", "")
    later = package(small)

    first = names(small)[0]
    assert first in succeed("restore")
    succeed("restore", first)
    assert package(small) == mine
    assert "nothing to do" in succeed("restore", first)
    succeed("restore", names(small)[-1])
    assert package(small) == later


def test_restore_refuses_a_name_that_is_none_or_many(small: Path) -> None:
    succeed("start", "1", "2")
    succeed("reset", "1", "1")
    assert "there is no backup 'nonsense'" in refused("restore", "nonsense")
    assert "2 backups' names begin with '2'" in refused("restore", "2")


def test_a_damaged_backup_is_named_and_in_no_others_way(small: Path) -> None:
    before = package(small)
    succeed("start", "1", "2")
    succeed("reset", "1", "1", "1")
    first, second = names(small)
    (small / ".course/backups" / second / "backup.json").write_text("{")
    listing = succeed("restore")
    assert "backup.json is damaged" in listing
    assert first in listing
    assert "backup.json is damaged" in refused("restore", second)
    succeed("restore", first)
    assert package(small) == before


def test_an_answer_between_lines_that_cannot_do_without_it_is_named(small: Path) -> None:
    edit(numbers(small), "@task(1, 1, 1)\n", f"if True:\n    def double(x):\n    {DOUBLE}\n\n\n@task(1, 1, 1)\n")
    before = package(small)
    message = refused("reset", "1", "1", "1")
    assert "double" in message
    assert "Mend that line" not in message, "the learner's file is whole: no line of it needs mending"
    assert package(small) == before


# what can go wrong while files are written


@pytest.fixture
def filled(small: Path) -> Path:
    write_double(small)
    write(small / "src/tiny_llm/notes.txt", "my notes\n")
    return small


def _failing(monkeypatch: pytest.MonkeyPatch, module: object, name: str, at: int, error: BaseException) -> list[int]:
    calls = [0]
    real = getattr(module, name)

    def stand_in(*arguments: object, **keywords: object) -> object:
        calls[0] += 1
        if calls[0] == at:
            raise error
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, stand_in)
    return calls


WRITES = [
    (os, "replace"),
    (Path, "write_bytes"),
    (Path, "write_text"),
    (Path, "mkdir"),
    (Path, "rename"),
    (Path, "chmod"),
    (shutil, "copy2"),
]


@pytest.mark.parametrize(("module", "name"), WRITES, ids=[name for _, name in WRITES])
def test_a_write_that_fails_leaves_all_as_it_was(
    filled: Path, monkeypatch: pytest.MonkeyPatch, module: object, name: str
) -> None:
    before = package(filled)
    for at in range(1, 30):
        with monkeypatch.context() as patch:
            calls = _failing(patch, module, name, at, OSError(28, "No space left on device"))
            done = run("start", "1", "2", "--replace")
        if calls[0] < at:
            break
        assert done.exit_code == 1, done.output
        assert "No space left on device" in done.output
        assert package(filled) == before
        assert interrupted_run(filled) is None
        assert not list((filled / ".course/backups").glob(".*")), "half a backup is left"
    assert at > 1, f"{name} was never called"
    assert done.exit_code == 0
    assert "secret" in numbers(filled).read_text()


@pytest.mark.parametrize("name", ["replace", "unlink"])
def test_after_a_kill_the_same_command_or_restore_brings_all_in_order(
    filled: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    before, interruptions = package(filled), 0
    for at in range(1, 30):
        with monkeypatch.context() as patch:
            patch.setattr("tiny_llm_kit.course.swap._go_back", lambda *_: None)  # one that is killed does not go back
            calls = _failing(patch, os if name == "replace" else Path, name, at, Killed())
            code = run_to_its_end_or_death("start", "1", "2", "--replace")
        if calls[0] < at:
            break
        assert code == -9
        output = succeed("start", "1", "2", "--replace")
        if "was interrupted" in output:
            interruptions += 1
            assert f"restore {names(filled)[0]}" in output
        assert "secret" in numbers(filled).read_text()
        assert not [file for file in package(filled) if file.endswith(".course-new")]
        succeed("restore", names(filled)[0])
        assert package(filled) == before
        assert "was interrupted" not in succeed("restore")
        for backup in backups.list_all(filled):
            shutil.rmtree(backup.folder)
    assert interruptions, "it was never killed between two writes"


def test_what_a_killed_run_has_left_is_swept_up_by_the_next_one(filled: Path) -> None:
    write(filled / "src/tiny_llm/.shapes.py.course-new", "half a fi")
    succeed("start", "1", "2")
    assert not [name for name in package(filled) if "course-new" in name]
    assert Path("src/tiny_llm/.shapes.py.course-new") not in backups.list_all(filled)[0].files


def test_when_the_way_back_fails_too_the_backup_is_named(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = os.replace, []

    def stand_in(*arguments: str) -> None:
        calls.append(arguments)
        if len(calls) > 1:
            raise OSError(5, "Input/output error")
        real(*arguments)

    before = package(filled)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", stand_in)
        done = run("start", "1", "2", "--replace")
    assert done.exit_code == 1
    assert f"pdm run course restore {names(filled)[0]}" in done.output
    succeed("restore", names(filled)[0])
    assert package(filled) == before


def test_files_and_folders_that_are_read_only_are_named_and_respected(filled: Path) -> None:
    before = package(filled)
    numbers(filled).chmod(0o444)
    assert "  src/tiny_llm/numbers.py\n" in refused("start", "1", "2")
    numbers(filled).chmod(0o600)
    (filled / "src/tiny_llm/kernels").chmod(0o555)
    try:
        assert "  src/tiny_llm/kernels\n" in refused("start", "1", "2")
    finally:
        (filled / "src/tiny_llm/kernels").chmod(0o755)
    assert package(filled) == before
    succeed("start", "1", "2")
    assert numbers(filled).stat().st_mode & 0o777 == 0o600


def test_links_stay_links(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    numbers(filled).rename(elsewhere / "numbers.py")
    numbers(filled).symlink_to(elsewhere / "numbers.py")
    (filled / "src/tiny_llm/kernels").rename(elsewhere / "kernels")
    (filled / "src/tiny_llm/kernels").symlink_to(elsewhere / "kernels")
    write(elsewhere / "kernels/notes.txt", "my notes\n")
    (filled / "src/tiny_llm/loop").symlink_to(filled / "src")
    succeed("start", "1", "2", "--replace")
    assert numbers(filled).is_symlink()
    assert "secret" in (elsewhere / "numbers.py").read_text()
    assert "secret" in (elsewhere / "kernels/double.metal").read_text()
    (elsewhere / "kernels/notes.txt").unlink()
    succeed("restore", names(filled)[0])
    assert DOUBLE in (elsewhere / "numbers.py").read_text()
    assert "secret" not in (elsewhere / "kernels/double.metal").read_text()
    assert (elsewhere / "kernels/notes.txt").read_text() == "my notes\n"


def test_what_links_lead_to_out_of_the_package_is_never_removed(filled: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    write(elsewhere / "notes/thesis.txt", "mine\n")
    succeed("start", "1", "2", "--replace")
    (filled / "src/tiny_llm/notes").symlink_to(elsewhere / "notes")
    (filled / "src/tiny_llm/thesis.txt").symlink_to(elsewhere / "notes/thesis.txt")
    (filled / "src/tiny_llm/reference").symlink_to("../tiny_llm_ref")
    write(filled / "src/tiny_llm/later.py", "")
    succeed("restore", names(filled)[0])
    assert (elsewhere / "notes/thesis.txt").read_text() == "mine\n"
    assert (filled / "src/tiny_llm_ref/numbers.py").exists()
    assert not (filled / "src/tiny_llm/later.py").exists()


def test_a_link_to_itself_is_replaced(filled: Path) -> None:
    numbers(filled).unlink()
    numbers(filled).symlink_to("numbers.py")
    succeed("start", "1", "2")
    assert "secret" in numbers(filled).read_text()


def test_a_repository_in_the_package_is_left_to_git(filled: Path) -> None:
    write(filled / "src/tiny_llm/.git/HEAD", "one\n")
    succeed("start", "1", "2", "--replace")
    write(filled / "src/tiny_llm/.git/HEAD", "two\n")
    write(filled / "src/tiny_llm/.git/objects/2", "a commit\n")
    succeed("restore", names(filled)[0])
    assert (filled / "src/tiny_llm/.git/HEAD").read_text() == "two\n"
    assert (filled / "src/tiny_llm/.git/objects/2").exists()


def test_a_file_that_an_editor_saves_in_between_is_not_overwritten(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = backups.create

    def create_and_save(*arguments: object, **keywords: object) -> object:
        made = real(*arguments, **keywords)  # type: ignore[arg-type]
        write(numbers(filled), "saved = 'just now'\n")
        return made

    monkeypatch.setattr("tiny_llm_kit.course.workspace.backups.create", create_and_save)
    done = run("start", "1", "2")
    assert done.exit_code == 1
    assert "has just been changed" in done.output
    assert numbers(filled).read_text() == "saved = 'just now'\n"


def test_two_at_a_time_do_not_mix_their_changes(filled: Path) -> None:
    before = package(filled)
    with alone(filled):
        done = run("start", "1", "2")
    assert done.exit_code == 1
    assert "another `pdm run course`" in done.output
    assert package(filled) == before
    succeed("start", "1", "2")


# solution


def test_the_solution_is_shown_once_the_tests_of_the_task_pass(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tiny_llm_kit.course.task_tests.run_task_tests", run_task_tests)
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    output = run("solution", "1", "1", "1")
    assert output.exit_code == 1
    assert "1 of its 1 tests fail" in output.output
    assert "secret" not in output.output
    write_double(small)
    shown = succeed("solution", "1", "1", "1")
    assert f"-{DOUBLE}\n" in shown
    assert "+    return 2 * x\n" in shown
    assert "count_down" not in shown
    assert "y[i] = 2 * x[i];  // the secret" in shown


def test_whoever_gives_up_sees_it(small: Path) -> None:
    numbers(small).unlink()
    assert "+        start -= 1\n" in succeed("solution", "1", "1", "2", "--give-up")
    succeed("start", "1", "2")
    assert "is the reference's, line by line" in succeed("solution", "1", "1", "2", "--give-up")


# everything at once


def learner_lines(root: Path) -> set[str]:
    return {line for content in package(root).values() for line in content.decode().splitlines() if "mine" in line}


def kept_lines(root: Path) -> Iterator[str]:
    for path in [*(root / "src/tiny_llm").rglob("*"), *(root / ".course/backups").rglob("*")]:
        if path.is_file():
            yield from path.read_text().splitlines()


@pytest.mark.parametrize("seed", range(4))
def test_no_line_is_ever_lost(small: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    draw = random.Random(seed)
    written: set[str] = set()
    for step in range(25):
        path = small / "src/tiny_llm" / draw.choice(["numbers.py", "shapes.py", "kernels/double.metal", "notes.txt"])
        lines = path.read_text().splitlines() if path.exists() else [""]
        place = draw.randrange(len(lines) + 1)
        comment = "//" if path.suffix == ".metal" else "#"
        lines[place:place] = [
            f"{draw.choice(['', '    ', '        '])}{draw.choice([f'{comment} ', 'return '])}mine_{seed}_{step}"
        ]
        write(path, "\n".join(lines) + "\n")
        written |= learner_lines(small)
        command = draw.choice(
            [("start", "1", "2"), ("start", "1", "2", "--replace"), ("reset", "1", "1"), ("reset", "1", "2", "1"), ("restore",)]
        )
        if command == ("restore",) and names(small):
            command = ("restore", draw.choice(names(small)))
        with monkeypatch.context() as patch:
            if draw.random() < 0.3:
                _failing(patch, os, "replace", draw.randint(1, 3), draw.choice([OSError(28, "full"), Killed()]))
            before = package(small)
            code = run_to_its_end_or_death(*command)
        if code:
            assert package(small) == before
    lost = written - set(kept_lines(small))
    assert not lost
