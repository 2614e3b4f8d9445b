"""Some days have tasks whose numbers are not their order, or tasks in parts: their tests run in the order of their page."""

import os
import re
import subprocess
import sys
from itertools import pairwise

import pytest

from tiny_llm_kit.course.course_map import Day, find_root, load_course

COURSE = load_course(find_root())


@pytest.mark.parametrize("day", [COURSE.find_day(2, 6), COURSE.find_day(2, 7)], ids=["week 2 day 6", "week 2 day 7"])
def test_tests_run_in_the_order_of_their_page(day: Day) -> None:
    collected = collect(day)
    tasks = [name.split("_")[2] for name in collected]
    chapter = "\n".join((find_root() / page).read_text(encoding="utf-8") for page in day.pages)
    explained = re.findall(r"^### Task (\d+): ", chapter, re.MULTILINE)
    assert list(dict.fromkeys(tasks)) == explained, "a task's tests stand together, in the order of the page"
    assert sum(one != other for one, other in pairwise(tasks)) == len(explained) - 1, "each task once"
    for number, parts in day.parts.items():
        mine = [name.split("_")[3] for name in collected if name.startswith(f"test_task_{number}_")]
        found = list(dict.fromkeys(part for part in mine if part in parts))
        assert tuple(found) == parts, f"task {number}: each part has tests, and the parts run in the order of course.toml"
        changes = sum(one != other for one, other in pairwise(mine) if one in parts)
        assert changes in (len(parts) - 1, len(parts)), f"task {number}: a part's tests stand together, before all others"


def collect(day: Day) -> list[str]:
    """The names of the day's tests, in the order in which they run."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", str(day.tests), "--collect-only", "-q", "--solution", "ref"],
        cwd=find_root(),
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"::(test_task_\d+_\w+)", done.stdout)
