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


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def tables(text: str) -> list[tuple[list[str], list[list[str]]]]:
    """Of each table in Markdown its columns, and its rows."""
    found = re.findall(r"^(\|.*)\n\|[ :|-]+\|\n((?:\|.*\n)+)", f"{text}\n", re.MULTILINE)
    return [(cells(head), [cells(line) for line in body.splitlines()]) for head, body in found]


def numbered(columns: list[str]) -> list[tuple[str, int]]:
    """Each name with the number of columns before it that have the same."""
    return [(name, columns[:place].count(name)) for place, name in enumerate(columns)]


def written(name: str, columns: list[str]) -> list[list[str]]:
    """The rows of all tables that a command wrote with these columns, of which a page may leave some out.

    Where several columns have one name, as shares have, they are taken in order.
    """
    rows: list[list[str]] = []
    for all_columns, body in tables((FIGURES / f"{name}.md").read_text(encoding="utf-8")):
        if set(numbered(columns)) <= set(numbered(all_columns)):
            places = [numbered(all_columns).index(column) for column in numbered(columns)]
            rows += [[row[place] for place in places] for row in body]
    return rows


@pytest.mark.parametrize(("page", "name", "place"), MARKED, ids=[f"{page.stem}-{name}" for page, name, _ in MARKED])
def test_a_table_has_the_lines_that_its_command_wrote(page: Path, name: str, place: int) -> None:
    shown = page.read_text(encoding="utf-8")[place:].lstrip("\n").split("\n\n")[0]
    assert shown.startswith("|"), f"{page.name}: a table has to follow the mark of figures/{name}"
    ((columns, rows),) = tables(shown)
    foreign = [row for row in rows if row not in written(name, columns)]
    assert not foreign, f"{page.name} has rows that book/figures/{name}.md has not in its columns {columns}: {foreign}"


def test_a_number_of_another_row_or_column_is_noticed() -> None:
    schedules = ["engine", "tokens/s", "× static"]
    (row,) = [row for row in written("schedules-chat", schedules) if row[0] == "continuous"]
    assert row == ["continuous", "59", "1.62"]
    assert ["continuous", "59", "1.00"] not in written("schedules-chat", schedules)
    assert written("schedules-chat", ["engine", "no such column"]) == []


@pytest.mark.parametrize("path", sorted(FIGURES.glob("*.md")), ids=lambda path: path.stem)
def test_figures_come_with_their_data_and_stand_in_a_page(path: Path) -> None:
    document = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert document["machine"], f"{path.stem}.json has to say on which machine it was measured"
    assert path.stem in {name for _, name, _ in MARKED}, f"no page shows a table of book/figures/{path.name}"
