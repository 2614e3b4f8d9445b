"""Hints: every task has some, and what they name exists."""

from pathlib import Path

import pytest

from kit.small_course import COURSE, write_small_course
from tiny_llm_kit.course.consistency import find_contradictions
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.hint_faults import SkeletonNames
from tiny_llm_kit.course.skeleton import Skeleton, generate

FIRST_DAY = 'tasks = ["double", "count down"]'
LAST_DAY = 'tasks = ["the \\"area\\""]'


Small = tuple[Path, Skeleton]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    root = write_small_course(tmp_path_factory.mktemp("course"))
    return root, generate(root, load_course(root))


def contradictions(small: Small, tasks: str, *hints: str) -> list[str]:
    """Those of the small course if the first task of the day with these tasks has these hints."""
    root, skeleton = small
    assert tasks in COURSE
    written = ", ".join(f"'{hint}'" for hint in hints)
    (root / "course.toml").write_text(COURSE.replace(tasks, f"{tasks}\n  hints.1 = [{written}]"))
    return find_contradictions(root, load_course(root), skeleton)


def test_every_task_has_hints() -> None:
    course = load_course(find_root())
    lacking = [str(task) for day in course.ready_days for task in day.tasks if not day.hints.get(task.number)]
    assert not lacking, f"write `hints` for these tasks into course.toml: {lacking}"


@pytest.mark.parametrize(
    "hint",
    [
        "`double` it",
        "read the `thread_position_in_grid`",
        "`task_1` is in the chapter alone",
        "`mx.fast.rms_norm(x)` and `mx.float32`",
        "`Square.side` and `Square.area`",
        "`Iterator.whatever` comes from elsewhere",
        "`area = side * side` is an expression",
        "no_code_here",
    ],
)
def test_a_hint_may_name_what_there_is(small: Small, hint: str) -> None:
    assert contradictions(small, LAST_DAY, hint, "another") == []


@pytest.mark.parametrize(
    ("hints", "message"),
    [
        (("one",), "the number of hints is 1, and it should be 2 to 4"),
        (("one", "two", "three", "four", "five"), "the number of hints is 5"),
        (("one", "two", "one"), "two of its hints are equal"),
        (("one", "x" * 401), "hint 2 has 401 characters"),
        (("one", "`count_down` and `count_up`"), "hint 2 names `count_up`, which neither the skeleton nor the chapter names"),
        (("one", "`CountDown`"), "names `CountDown`"),
        (("one", "`self.start`, `self.steps`"), "names `steps`"),
        (("one", "`mx.softmin(x)`"), "names `mx.softmin`, which MLX does not have"),
        (("one", "`mx.fast.softmax(x)`"), "names `mx.fast.softmax`"),
    ],
)
def test_faults_are_found(small: Small, hints: tuple[str, ...], message: str) -> None:
    (found,) = contradictions(small, FIRST_DAY, *hints)
    assert found.startswith("Week 1 Day 1, task 1: double: ")
    assert message in found


def test_a_member_must_be_its_classs(small: Small) -> None:
    (found,) = contradictions(small, LAST_DAY, "one", "`Square.side` and `Square.double`")
    assert found == 'Week 1 Day 2, task 1: the "area": hint 2 names `Square.double`, and the skeleton\'s Square has no double'


def test_what_a_class_has() -> None:
    source = b"""
class Base:
    kind: str
    most = 3

    def __init__(self) -> None:
        self.size, self.count = 1, 2
        self.name: str = ""

    async def wait(self) -> None: ...


class Own(Base):
    def go(self) -> None: ...
"""
    names = SkeletonNames(Skeleton({Path("own.py"): source, Path("own.txt"): b"class"}, set()))
    assert [name for name in ("kind", "most", "size", "count", "name", "wait", "go") if not names.has("Own", name)] == []
    assert not names.has("Own", "stop")
    assert not names.has("Base", "go"), "a base has nothing of those that build on it"
