"""Short programs on the pages, for a learner to copy: run on the reference, each prints what the page shows after it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tiny_llm_kit.course import session
from tiny_llm_kit.course.course_map import find_root

ROOT = find_root()
PROGRAM = re.compile(r"^```sh\n(pdm run python -c \"\n(?:(?!```).)*?\")\n```\n\n```text\n(.*?)```$", re.MULTILINE | re.DOTALL)
SHOWN = [
    pytest.param(program, output, id=f"{page.stem}-{number}")
    for page in sorted((ROOT / "book/src").glob("*.md"))
    for number, (program, output) in enumerate(PROGRAM.findall(page.read_text(encoding="utf-8")), 1)
]


@pytest.mark.timeout(300)  # without a cache, a text of the real model takes its time
@pytest.mark.parametrize(("program", "output"), SHOWN)
def test_a_program_prints_what_the_page_shows(program: str, output: str) -> None:
    code = shlex.split(program)[-1].replace("from tiny_llm import", "from tiny_llm_ref import")
    environment = session.environment(Path(ROOT))
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == output.strip()
