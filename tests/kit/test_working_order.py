"""Week 2 Day 6 has tasks whose numbers are not their order: its tests run in the order in which its page does them."""

import os
import re
import subprocess
import sys
from itertools import pairwise

from tiny_llm_kit.course.course_map import find_root, load_course


def test_the_tests_of_day_6_run_in_the_order_of_its_page() -> None:
    root = find_root()
    day = load_course(root).find_day(2, 6)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", day.tests, "--collect-only", "-q", "--solution", "ref"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    collected = re.findall(r"::test_task_(\d+)_", done.stdout)
    page = (root / day.chapter).read_text(encoding="utf-8")
    explained = re.findall(r"^### Task (\d+): ", page, re.MULTILINE)
    assert list(dict.fromkeys(collected)) == explained, "a task's tests stand together, in the order of the page"
    assert sum(one != other for one, other in pairwise(collected)) == len(explained) - 1, "each task once"
