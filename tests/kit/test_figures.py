"""Tables of measurements in the pages are those that a command wrote, line by line."""

import json
import re
from pathlib import Path

import pytest

from tiny_llm_kit.course.course_map import find_root

ROOT = find_root(Path(__file__))
FIGURES = ROOT / "book" / "figures"
MARK = re.compile(r"^<!-- figures/([\w-]+) -->$", re.MULTILINE)
PAGES = [ROOT / "README.md", *sorted((ROOT / "book" / "src").glob("*.md"))]
MARKED = [(page, mark[1], mark.end()) for page in PAGES for mark in MARK.finditer(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize(("page", "name", "place"), MARKED, ids=[f"{page.stem}-{name}" for page, name, _ in MARKED])
def test_a_table_has_the_lines_that_its_command_wrote(page: Path, name: str, place: int) -> None:
    table = page.read_text(encoding="utf-8")[place:].lstrip("\n").split("\n\n")[0].splitlines()
    assert table[0].startswith("|"), f"{page.name}: a table has to follow the mark of figures/{name}"
    written = (FIGURES / f"{name}.md").read_text(encoding="utf-8").splitlines()
    foreign = [line for line in table if line not in written]
    assert not foreign, f"{page.name} has lines that book/figures/{name}.md has not: {foreign}"


@pytest.mark.parametrize("path", sorted(FIGURES.glob("*.md")), ids=lambda path: path.stem)
def test_figures_come_with_their_data_and_stand_in_a_page(path: Path) -> None:
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert document["machine"], f"{path.stem}.json has to say on which machine it was measured"
    assert path.stem in {name for _, name, _ in MARKED}, f"no page shows a table of book/figures/{path.name}"
