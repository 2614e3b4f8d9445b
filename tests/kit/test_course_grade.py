"""`pdm run course grade`: the points that answers get, by whatever means they try to."""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from kit.graded_course import FOOT, TRICKS, write_graded_course, write_package
from kit.small_course import edit, is_gone, run_git, wait_until, write
from tiny_llm_kit.cli.course import main
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.grading import runs
from tiny_llm_kit.course.grading.channel import Receiver, make_sender
from tiny_llm_kit.course.grading.operators import find_owner
from tiny_llm_kit.course.grading.points import DayGrade, Failure, Grade, TaskGrade
from tiny_llm_kit.course.grading.pristine import write_pristine
from tiny_llm_kit.course.grading.room import Room
from tiny_llm_kit.course.grading.rules import load_rules
from tiny_llm_kit.course.grading.runs import Limits, Run
from tiny_llm_kit.course.grading.similarity import describe_similarity
from tiny_llm_kit.course.grading.submission import copy_package, find_package

GradeIt = Callable[..., Result]

KILLS_ITS_SUPERVISOR = """\
import os, subprocess
        left = subprocess.Popen(["sleep", "600"], env={{}}, start_new_session=True)
        open("{note}", "w").write(str(left.pid))
        os.kill(os.getppid(), 9)"""


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_graded_course(tmp_path_factory.mktemp("course"))


@pytest.fixture
def grade_it(course: Path, monkeypatch: pytest.MonkeyPatch) -> GradeIt:
    monkeypatch.setattr("tiny_llm_kit.cli.course.grade.find_root", lambda: course)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["grade", *arguments])

    return run


def by_name(output: str) -> dict[str, dict[str, Any]]:
    return {task["title"]: task for day in json.loads(output)["days"] for task in day["tasks"]}


def test_each_trick_costs_its_own_task_and_no_other(grade_it: GradeIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_in, outlives = tmp_path / "ada", tmp_path / "outlives"
    write_package(handed_in / "src/tiny_llm", TRICKS, foot=FOOT, area=KILLS_ITS_SUPERVISOR.format(note=str(outlives)))
    # Nothing else of a clone counts, nor what the environment says.
    write(handed_in / "tests/week1/test_day1_squares.py", "def test_task_3_stub() -> None:\n    pass\n")
    for name in ("conftest.py", "sitecustomize.py", "checks.py", "src/tiny_llm/conftest.py", "src/support.py"):
        write(handed_in / name, "import os\nos._exit(0)\n")
    write(handed_in / "pytest.ini", "[pytest]\naddopts = --collect-only\n")
    write(handed_in / "start.pth", "import os; os._exit(0)\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "--collect-only")
    monkeypatch.setenv("PYTHONPATH", str(handed_in))
    monkeypatch.setenv("PYTHONSTARTUP", str(handed_in / "conftest.py"))

    done = grade_it("--submission", str(handed_in), "--week", "1", "--format", "json", "--timeout", "1")

    assert done.exit_code == 0, done.output
    tasks = by_name(done.stdout)
    passed = {name: task["passed"] for name, task in tasks.items() if task["points"]}
    assert passed == {"right": 2, "half": 1, "hoarder": 1, "stranger": 1, "last": 2}
    assert [tasks[name]["points"] for name in ("right", "half", "stub")] == [10.0, 5.0, 0.0]
    unfair = {name: " ".join(task["unfair"]) for name, task in tasks.items() if task["unfair"]}
    assert unfair.keys() == {
        *("operator", "attribute", "alias", "library", "importer", "thread", "reader", "patch", "builtin", "plugin", "runner"),
        *("oracle", "executed", "called", "borrowed"),
    }
    line = (handed_in / "src/tiny_llm/squares.py").read_text().splitlines().index("    return int(power(x, 2))") + 1
    assert unfair["operator"] == f"tiny_llm/squares.py:{line}: calls math.pow: the task is to square"
    assert "calls math.pow" in unfair["attribute"]
    assert unfair["alias"] == "tiny_llm/squares.py: tiny_llm.squares:alias is math.pow: the task is to square"
    assert unfair["borrowed"] == "tiny_llm/squares.py: tiny_llm.squares:borrowed is builtins.abs: the task is to square"
    assert "imports fractions: it can square" in unfair["library"]
    assert "imports tiny_llm_ref" in unfair["importer"]
    assert unfair["thread"] == "imports tiny_llm_ref"
    assert "reads tiny_llm_ref" in unfair["reader"]
    assert "checks.check" in unfair["patch"]
    assert "builtins.divmod" in unfair["builtin"]
    assert "plugin Generous" in unfair["plugin"]
    assert "test_task_14_runner[4]" in unfair["runner"]
    assert "imports checks: the tests compare with it" in unfair["oracle"]
    assert "calls math.pow" in unfair["executed"]
    assert "called is math.pow" in unfair["called"]
    assert tasks["skipper"]["not_graded"] is None, "this machine has a compiler, whatever an answer says"
    whys = {name: task["failures"][0]["why"] for name, task in tasks.items() if task["failures"]}
    assert whys["stub"] == "NotImplementedError: Week 1 Day 1, task 3"
    assert whys["odd"] == "ValueError: \\ud800\x1b[31m"
    assert whys["sleeper"] == "this had not ended after 1 s"
    assert whys["killer"] == whys["forker"] == "its process ended with exit code 0"
    assert whys["quitter"] == "it ended before its end"
    assert whys['the "area"'].startswith("before the first test, it ended the process that watches it")
    assert whys["skipper"].startswith("no C++ compiler")
    notices = "\n".join(json.loads(done.stdout)["notices"])
    assert "ends the process by os._exit (tests of task 1.1.28" in notices
    assert "writes to the pipe" in notices
    assert "has changed tests/checks.py on disk" in notices
    if sys.platform == "linux":  # elsewhere nobody finds a process that has left its session, its parent and its HOME
        assert is_gone(int(outlives.read_text()))


def test_the_reference_gets_all_points(grade_it: GradeIt, course: Path, tmp_path: Path) -> None:
    copy_package(course / "src/tiny_llm_ref", tmp_path / "tiny_llm")
    out = tmp_path / "new/folder/grade.txt"
    done = grade_it("--submission", str(tmp_path / "tiny_llm"), "--out", str(out))
    assert done.exit_code == 0, done.output
    assert f"Week 1 Day 1: Doubling: {10 * len(TRICKS)} of {10 * len(TRICKS)} points" in done.stderr
    total = 10 * (len(TRICKS) + 1)
    assert f"\n{total} of {total} points\n" in out.read_text()
    assert "No points" not in out.read_text()
    assert "no commit that git can read" in out.read_text()


def test_an_answer_that_cannot_be_imported_has_no_points_and_a_reason_and_twice_the_same(
    grade_it: GradeIt, course: Path, tmp_path: Path
) -> None:
    write_package(tmp_path / "tiny_llm", {"right": "return x *"})
    once, twice = (grade_it("--submission", str(tmp_path), "--week", "1", "--day", "2", "--format", "json") for _ in range(2))
    assert once.exit_code == 0, once.output
    whole = json.loads(once.stdout)
    assert (whole["points"], whole["max_points"]) == (0.0, 10)
    assert "SyntaxError: invalid syntax" in once.stdout
    assert once.stdout == twice.stdout


def test_kernels_that_cannot_run_are_not_graded(grade_it: GradeIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    write_package(tmp_path / "tiny_llm", {}, area="import pytest; pytest.skip('no C++ compiler: as a kernel would say')")
    done = grade_it("--submission", str(tmp_path), "--week", "1", "--day", "2", "--format", "json")
    area = by_name(done.stdout)['the "area"']
    assert (area["points"], json.loads(done.stdout)["max_points"]) == (None, 0)
    assert "$CXX is 'no-such-compiler', which does not exist" in area["not_graded"]


def test_what_is_changed_while_the_answer_is_imported_costs_the_tasks_of_its_day(
    grade_it: GradeIt, course: Path, tmp_path: Path
) -> None:
    """A helper of the tests that comes from the answer, and an operator that stands for an answer."""
    head = "import math, os, sys\nfrom tiny_llm_kit.course import task\nsys.path.insert(0, os.path.dirname(__file__))\n"
    bodies = dict.fromkeys(TRICKS, "return x * x")
    write_package(tmp_path / "tiny_llm", bodies, head)
    write(tmp_path / "tiny_llm/checks.py", "def check(got, wanted):\n    pass\n")
    tasks = by_name(grade_it("--submission", str(tmp_path), "--week", "1", "--day", "1", "--format", "json").stdout)
    assert all("the tests' module checks" in task["unfair"][0] for task in tasks.values())


def test_ctrl_c_has_its_own_exit_code(grade_it: GradeIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_package(tmp_path / "tiny_llm", {})

    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tiny_llm_kit.course.grading.grade.grade", interrupted)
    done = grade_it("--week", "1", "--submission", str(tmp_path))
    assert (done.exit_code, done.output.splitlines()[-1]) == (130, "Interrupted.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--day", "1"], "day 1 of which week?"),
        (["--week", "7"], "week 7 has no day that can be graded"),
        (["--week", "1", "--day", "9"], "there is no week 1 day 9"),
        (["--week", "2", "--day", "6"], "is planned"),
        (["--submission", "no/such/folder"], "is not a folder"),
        (["--submission", "."], "holds no package 'tiny_llm'"),
        (["--format", "xml"], "'xml' is not one of"),
        (["--timeout", "0"], "--timeout"),
    ],
)
def test_bad_input_is_refused(
    grade_it: GradeIt, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = grade_it(*arguments)
    assert done.exit_code == 2
    assert message in done.output


def test_of_a_submission_only_plain_source_files_are_taken(course: Path, tmp_path: Path) -> None:
    package = write_package(tmp_path / "deep/er/tiny_llm", TRICKS)
    for name in ("fast.so", "__pycache__/squares.cpython-311.pyc", "old.pyc"):
        write(package / name, "x")
    (package / "secret.py").symlink_to("/etc/hostname")
    (package / "folder").symlink_to("/etc")
    there = load_course(course)
    assert find_package(tmp_path, there) == package
    assert copy_package(package, tmp_path / "copy") == ["fast.so", "folder", "old.pyc", "secret.py"]
    assert sorted(path.name for path in (tmp_path / "copy").rglob("*")) == ["__init__.py", "shapes.py", "squares.py"]
    write_package(tmp_path / "two/tiny_llm", TRICKS)
    with pytest.raises(ValueError, match=r"several packages .*: deep/er/tiny_llm, two/tiny_llm\. Give one"):
        find_package(tmp_path, there)


def test_tests_are_those_of_the_commit_and_edits_are_named(course: Path, tmp_path: Path) -> None:
    root = write_graded_course(tmp_path / "clone")
    write(root / "tests/mistakes/week1.toml", "")
    run_git(root, "init")
    run_git(root, "add", "--all")
    run_git(root, "commit", "-m", "all")
    test = root / "tests/checks.py"
    before = test.read_text()
    edit(test, "assert got == wanted", "assert True")
    write(root / "tests/conftest2.py", "")
    pristine = write_pristine(root, tmp_path / "room")
    assert (pristine.course / "tests/checks.py").read_text() == before
    assert pristine.edited == ("tests/checks.py", "tests/conftest2.py")
    assert "commit" in pristine.note
    for with_answers in ("src/tiny_llm_ref", "tests/mistakes"):
        assert not (pristine.course / with_answers).exists()
    run_git(root, "rm", "-r", "-q", "--cached", "src/tiny_llm_ref")
    run_git(root, "commit", "-m", "without the reference")
    assert "as they are" in write_pristine(root, tmp_path / "another room").note


def test_a_room_is_the_same_whatever_was_made_of_it(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    write(precious / "file", "dear")
    room = Room(tmp_path / "room")
    names = ("course/test.py", "course/folder/a.py", "course/folder/b.py", "answer/mine.py")
    for name in names:
        write(room.folder / name, name)
    room.remember()

    def spoil() -> None:
        edit(room.course / "test.py", "test", "cheat")
        (room.course / "folder/a.py").unlink()
        (room.course / "folder/a.py").symlink_to(precious)
        write(room.course / "conftest.py", "new")
        (room.folder / "job.json").symlink_to(precious / "file")

    def put_links() -> None:
        for folder in (room.course, room.answer):
            folder.rename(folder.with_name(f"{folder.name}2"))
            folder.symlink_to(precious)

    def put_files() -> None:
        for folder in (room.course / "folder", room.answer):
            shutil.rmtree(folder)
            write(folder, "no folder")
        write(room.folder / f"home{room._runs + 1}", "no home")

    def dig() -> None:
        before = os.open(".", os.O_RDONLY)
        os.chdir(room.course)
        for _ in range(1200):
            os.mkdir("d")
            os.chdir("d")
        os.fchdir(before)
        os.close(before)
        room.course.chmod(0)

    def move_away() -> None:
        room.folder.rename(tmp_path / "elsewhere")
        room.folder.symlink_to(precious)

    changes = []
    for vandalize in (spoil, put_links, put_files, dig, move_away):
        vandalize()
        changes.append(room.tidy())
        files = {str(path.relative_to(room.folder)): path.read_text() for path in room.folder.rglob("*") if path.is_file()}
        assert files == {name: name for name in names}, vandalize.__name__
        assert room.home.is_dir()
    assert changes[0] == ["folder/a.py", "test.py"]
    assert [path.name for path in precious.iterdir()] == ["file"]
    assert (precious / "file").read_text() == "dear"
    room.remove()
    assert not room.folder.exists()


def test_a_supervisor_that_was_killed_has_said_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer can write to its supervisor's output, and then kill it."""
    forged = json.dumps({"messages": [{"kind": "end", "complete": True}], "forged": 0, "ending": "", "output": ""})
    for exit_code, lost in ((0, False), (-9, True), (143, True)):
        monkeypatch.setattr(runs.processes, "run", lambda *arguments, code=exit_code, **named: (code, forged))
        done = runs.run(Room(tmp_path), {}, Limits())
        assert (done.lost, done.complete) == (lost, not lost), f"exit code {exit_code}"


def test_a_task_whose_kernels_cannot_run_is_not_graded() -> None:
    day = load_course(find_root()).find_day(2, 3)
    tasks = [TaskGrade(task, tests=4, passed=4) for task in day.tasks]
    tasks[1].not_graded = "no C++ compiler: install one"
    tasks[2] = TaskGrade(day.tasks[2], tests=4, passed=3, failures=[Failure("test_task_3_x", "look at x")])
    tasks[3].unfair = ["tiny_llm/kernels/matvec.py:3: calls mlx.core.quantized_matmul: the task is to write it"]
    result = Grade([DayGrade(day, tasks)], ["Tests are pristine."])
    assert [task.points for task in tasks] == [10.0, None, 7.5, 0.0]
    assert (result.points, result.max_points) == (17.5, 30)

    gradescope = json.loads(grading_formats()["gradescope"](result))
    assert gradescope["score"] == 17.5
    assert [test.get("max_score") for test in gradescope["tests"]] == [10, None, 10, 10]
    assert [test.get("status") for test in gradescope["tests"]] == ["passed", None, "failed", "failed"]
    assert "Not graded: no C++ compiler" in gradescope["tests"][1]["output"]
    assert "look at x" in gradescope["tests"][2]["output"]
    assert "Not graded on this machine: task 2.3.2" in gradescope["output"]
    assert all(
        test["visibility"] == "visible" and test["name"].startswith("Week 2 Day 3, task") for test in gradescope["tests"]
    )

    classroom = json.loads(base64.b64decode(grading_formats()["github-classroom"](result)))
    assert (classroom["version"], classroom["status"], classroom["max_score"]) == (1, "fail", 30)
    assert [(test["status"], test["score"]) for test in classroom["tests"]] == [("pass", 10.0), ("fail", 7.5), ("fail", 0.0)]
    assert "look at x" in classroom["tests"][1]["message"]


def grading_formats() -> dict[str, Callable[[Grade], str]]:
    from tiny_llm_kit.course.grading.formats import FORMATS

    return FORMATS


def test_messages_count_only_once_and_only_if_signed() -> None:
    lines: list[bytes] = []
    begin, end = {"kind": "begin", "test": "a.py::test"}, {"kind": "end", "complete": True}
    receiver = Receiver(b"secret")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.write", lambda descriptor, line: lines.append(line))
        send = make_sender(b"secret", 1)
        send(begin)
        for odd in ([1], "begin", {"kind": "begin"}, {**begin, "more": 1}, {"kind": "begin", "test": 7}):
            send(odd)
        send(end)
        make_sender(b"another", 1)(end)
    first, *odd, second, other = lines
    for line in (first, first, other, b"no message\n", b"\xff \n", *odd, second):
        receiver.feed(line[:5])
        receiver.feed(line[5:])
    assert receiver.messages == [begin, end]
    assert receiver.forged == 4 + len(odd)


def test_an_answer_that_stops_the_process_that_watches_it_is_ended(grade_it: GradeIt, tmp_path: Path) -> None:
    write_package(tmp_path / "tiny_llm", {}, area="import os, signal; os.kill(os.getppid(), signal.SIGSTOP)")
    done = grade_it("--submission", str(tmp_path), "--week", "1", "--day", "2", "--format", "json")
    assert done.exit_code == 0, done.output
    assert by_name(done.stdout)['the "area"']["points"] == 0.0


def test_answers_that_read_like_the_reference_are_named(course: Path, tmp_path: Path) -> None:
    loop = "total = 0\n    for i in range(x):\n        total += x if i >= 0 else -x\n"
    body = f"{loop}    values = [total, x, i, total + x, total - x]\n    return max(values) - min(0, x)"
    other = "return sum(x for _ in range(x)) + sum(v - v for v in (x, x + 1, x + 2)) + max(0, min(0, x)) * len([x, x])"
    reference = write_package(tmp_path / "tiny_llm_ref", {"right": body, "half": body, "stub": "return x"})
    commented = body.replace("total = 0", "total = 0  # mine\n")
    mine = write_package(tmp_path / "tiny_llm", {"right": commented, "half": other, "stub": "return x"})
    notes = describe_similarity(mine, reference, {"1.1.1", "1.1.2", "1.1.3"})
    assert notes == ["Task 1.1.1: 1 of 1 longer functions read like the reference's: right"]
    for source in (
        "x = " + "-" * 100_000 + "1",
        "x = 1\n" * 1_000_000,
        "x = '\0'",
    ):  # Python's parser gives up, or takes gigabytes
        write(mine / "squares.py", source)
        assert describe_similarity(mine, reference, {"1.1.1"}) == []


def test_the_list_of_forbidden_operators_fits_the_course(tmp_path: Path) -> None:
    course = load_course(find_root())
    rules = load_rules(find_root(), course)
    assert any("mlx.core.softmax" in rule.calls for rule in rules)
    for name in [name for rule in rules for name in rule.calls]:
        owner, attribute = find_owner(name)
        assert callable(getattr(owner, attribute, None)), f"tests/forbidden.toml: this version of MLX has no {name}"
    assert find_owner("no_such_library.fast.softmax") == (None, "softmax")
    for entry, message in (
        ('tasks = ["9.9.9"]\nreason = "x"', "there is no task 9.9.9"),
        ('task = ["1.1.1"]\nreason = "x"', "has task, which means nothing"),
        ('tasks = ["1.1.1"]', "lacks 'reason'"),
    ):
        write(tmp_path / "tests/forbidden.toml", f"[[forbidden]]\n{entry}\n")
        with pytest.raises(ValueError, match=message):
            load_rules(tmp_path, course)


A_DAY = [
    "t.py::test_task_1_a[1]",
    "t.py::test_task_1_a[2]",
    "t.py::test_task_1_b",
    "t.py::test_task_2_c",
    "t.py::test_task_3_d",
]


def run_a_day(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: Callable[[str], str | None], lost: bool = False, told: bool = False
) -> list[list[str]]:
    """The tests of each run, where each test passes, or ends the process as `ends` says; `told`: after it was told to fail."""
    asked: list[list[str]] = []

    def run(room: Room, session: dict[str, Any], limits: Limits) -> Run:
        asked.append(session["wanted"])
        messages: list[dict[str, Any]] = []
        for test in session["wanted"]:
            messages.append({"kind": "begin", "test": test})
            if ending := ends(test):
                failed = {"kind": "result", "test": test, "outcome": "failed", "why": ending}
                return Run() if lost else Run([*messages, failed] if told else messages, ending, lost=False)
            messages.append({"kind": "result", "test": test, "outcome": "passed", "why": ""})
        return Run([*messages, {"kind": "end", "complete": True}], "", lost=False)

    monkeypatch.setattr(runs, "run", run)
    result = runs.run_day(Room(tmp_path), load_course(find_root()).find_day(1, 1), A_DAY, {}, Limits())
    assert result.outcomes.keys() == set(A_DAY)
    assert {test for test, (outcome, _) in result.outcomes.items() if outcome == "passed"} == set(A_DAY[3:])
    return asked


@pytest.mark.parametrize("told", [False, True])
def test_after_two_tests_that_end_the_process_the_rest_of_their_task_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    asked = run_a_day(tmp_path, monkeypatch, lambda test: "SIGSEGV" if "task_1" in test else None, told=told)
    assert asked == [A_DAY, A_DAY[1:], A_DAY[3:]]


def test_where_a_task_kills_the_supervisor_each_task_gets_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = run_a_day(tmp_path, monkeypatch, lambda test: "killed" if "task_1" in test else None, lost=True)
    assert asked[0] == A_DAY
    assert sorted(asked[1:]) == [A_DAY[:3], A_DAY[3:4], A_DAY[4:]]


SUPERVISED = """\
import sys
from pathlib import Path
from tiny_llm_kit.course.grading import supervisor
supervisor.GRACE = supervisor.START_SECONDS = 0.1
supervisor.main(Path(sys.argv[1]), sys.stdout)
"""

LIMITS = {"seconds": 5, "memory": 300 << 20, "processes": 8, "output": 1 << 20, "file": 1 << 20}


AFTER_ALL = f"""\
sys.path.insert(0, {str(find_root() / "src")!r})
import json
from tiny_llm_kit.course.grading.channel import make_sender
job = json.load(sys.stdin)
make_sender(bytes.fromhex(job["secret"]), job["descriptor"])({{"kind": "end", "complete": True}})
time.sleep(60)
"""


def start_supervised(folder: Path, script: str, **limits: float) -> "subprocess.Popen[str]":
    job = {
        "command": [sys.executable, "-c", f"import os, sys, time\n{script}"],
        "folder": str(folder),
        "environment": {},
        "limits": LIMITS | limits,
        "session": {},
    }
    write(folder / "job.json", json.dumps(job))
    command = [sys.executable, "-c", SUPERVISED, str(folder / "job.json")]
    environment = os.environ | {"PYTHONPATH": str(find_root() / "src")}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True, start_new_session=True)


def ending(folder: Path, script: str, **limits: float) -> str:
    with start_supervised(folder, script, **limits) as process:
        output, _ = process.communicate(timeout=60)
    return str(json.loads(output)["ending"])


@pytest.mark.parametrize(
    ("script", "limits", "wanted"),
    [
        ("sys.exit(3)", {}, "ended with exit code 3"),
        ("os.kill(os.getpid(), 11)", {}, "ended by SIGSEGV"),
        ("while True: print('x' * 9999)", {}, "printed more than 1 MB"),
        ("while os.fork() or True: pass", {}, "started more than 8 processes"),
        ("x = b'x' * (1 << 29); time.sleep(60)", {}, "used more than"),
        ("while True: pass", {"seconds": 0.1}, "had not ended after 0.2 s"),
        ("time.sleep(60)", {"seconds": 0.1}, "had not ended after 0.2 s"),
        ("open('large', 'wb').write(bytes(2 << 20))", {}, "exit code 1"),
        (AFTER_ALL, {}, "went on when all tests were done"),
    ],
)
def test_a_limit_ends_the_run_and_is_named(tmp_path: Path, script: str, limits: dict[str, float], wanted: str) -> None:
    assert wanted in ending(tmp_path, script, **limits)


DAEMON = """\
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        import signal
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        open('pid', 'w').write(str(os.getpid()))
        os.rename('pid', 'daemon')
        time.sleep(600)
while not os.path.exists('daemon'): time.sleep(0.01)
{then}
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to the supervisor; elsewhere HOME tells them")
def test_nothing_that_was_started_is_left(tmp_path: Path) -> None:
    assert "exit code 0" in ending(tmp_path, DAEMON.format(then=""))
    assert is_gone(int((tmp_path / "daemon").read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux gives orphans to the supervisor; elsewhere HOME tells them")
def test_ctrl_c_leaves_no_processes(tmp_path: Path) -> None:
    with start_supervised(tmp_path, DAEMON.format(then="time.sleep(600)")) as process:
        wait_until((tmp_path / "daemon").exists)
        process.send_signal(signal.SIGTERM)  # what the program sends when it is interrupted
        process.wait(30)
    assert is_gone(int((tmp_path / "daemon").read_text()))
