"""The pages of the book: what they promise, name and link to is there, and their pictures fit on a screen."""

import re
import tomllib
import unicodedata
from pathlib import Path

import pytest

from tiny_llm_kit.course.course_map import find_root, load_course

ROOT = find_root()
PAGES = sorted((ROOT / "book/src").glob("*.md"))
DAYS = {ROOT / day.chapter: day for day in load_course(ROOT).ready_days}
"""By the first page of its chapter."""
WIDEST = 88
"""Columns of a code block that mdBook shows in a window of 1400 pixels without cutting it off."""

each_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
each_chapter = pytest.mark.parametrize("page", DAYS, ids=lambda page: page.stem)
each_text = pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)

_FENCE = re.compile(r" *```")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
_FOLDED = re.compile(r"\n\n<details>\n<summary>Answers</summary>\n\n(.*?)\n\n</details>\n", re.DOTALL)


def code_lines(text: str) -> list[tuple[int, str]]:
    """Number and text of each line in a code block, fenced or indented after a blank line."""
    found, fenced, indented, before = [], False, False, ""
    for number, line in enumerate(text.splitlines(), 1):
        if _FENCE.match(line):
            fenced = not fenced
        elif fenced:
            found.append((number, line))
        else:
            indented = line.startswith("    ") and (indented or not before.strip())
            if indented:
                found.append((number, line))
        before = line
    return found


def columns(line: str) -> int:
    """How wide a line is in a font of fixed width; an emoji takes two columns."""
    return sum(2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in line)


def chapter(page: Path) -> str:
    """The chapter that begins with a page, all its pages in a row."""
    return "\n".join((ROOT / name).read_text(encoding="utf-8") for name in DAYS[page].pages)


def section(text: str, heading: str) -> str:
    """What stands under a heading of the second level; "" without it."""
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


def numbers(text: str) -> list[int]:
    """The numbers of a list's items."""
    return [int(number) for number in re.findall(r"^(\d+)\. ", text, re.MULTILINE)]


def anchors(page: Path) -> set[str]:
    """What may follow a `#` in a link to a page."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def missing_links(page: Path) -> list[str]:
    """The links of a page to files or headings that are not there."""
    missing = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if re.match(r"\w+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = page.parent / name if name else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    return missing


@each_page
def test_code_blocks_fit_on_a_screen(page: Path) -> None:
    wide = [
        f"{page.name}:{number}: {columns(line)}"
        for number, line in code_lines(page.read_text("utf-8"))
        if columns(line) > WIDEST
    ]
    assert not wide, f"lines of code blocks with more than {WIDEST} columns: redraw them narrower. {wide}"


@each_chapter
def test_each_prediction_has_a_folded_answer(page: Path) -> None:
    predictions, folded = section(chapter(page), "Predict before you code"), ""
    if match := _FOLDED.search(predictions):
        predictions, folded = predictions[: match.start()], match[1]
    assert "<details>" not in predictions, (
        f"{page.name}: answers are folded into <details>, the next line is <summary>Answers</summary>, with blank lines before "
        "the first, behind the second and around </details>: without these, mdBook shows raw Markdown"
    )
    asked, answered = numbers(predictions), numbers(folded)
    assert asked == list(range(1, len(asked) + 1)) != [], f"{page.name}: predictions are numbered from 1 on, not {asked}"
    assert answered == asked, f"{page.name}: predictions {asked}, but answers {answered} in <details> behind them"


@each_chapter
def test_a_chapter_explains_each_task_of_the_map(page: Path) -> None:
    day = DAYS[page]
    explained = sorted(int(number) for number in re.findall(r"^### Task (\d+): ", chapter(page), re.MULTILINE))
    assert explained == [task.number for task in day.tasks], f"{page.name}: '### Task N: …' for {explained}; see course.toml"


@each_chapter
def test_a_selection_of_tests_names_a_task_of_the_day(page: Path) -> None:
    day = DAYS[page]
    selected = re.findall(r"-k (?:\"[^\"]*\"|\S+)", chapter(page))
    tasks = {int(number) for selection in selected for number in re.findall(r"task_(\d+)", selection)}
    assert tasks, f"{page.name}: shows no `-k task_N`, so that nobody learns how to run one task"
    assert tasks <= {task.number for task in day.tasks}, f"{page.name}: `-k` for tasks {tasks}, of which the day lacks some"


@each_chapter
def test_a_chapter_names_its_own_day(page: Path) -> None:
    day, text = DAYS[page], chapter(page)
    for name in day.pages:
        begins = (ROOT / name).read_text(encoding="utf-8").startswith(f"# Week {day.week} Day {day.number}: ")
        assert begins, f"{name} is a page of {day}: see its first line"
    named = set(re.findall(r"--week (\d+) --day (\d+)", text))
    assert named == {(str(day.week), str(day.number))}, f"{page.name}: `pdm run test` for {named} in the chapter of {day}"


@each_text
def test_commands_and_files_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pdm"]["scripts"]
    commands = set(re.findall(r"\bpdm run ([\w-]+)", text))
    unknown = commands - scripts.keys() - {"python"}
    assert not unknown, f"{page.name}: pdm runs no {unknown}; [tool.pdm.scripts] has {sorted(scripts)}"
    files = re.findall(r"\b(?:src|tests|scripts|book)/[\w/.-]*\w", text)
    missing = [name for name in files if not (ROOT / name).exists()]
    assert not missing, f"{page.name} names files that are not there: {missing}"


def test_the_summary_lists_every_page() -> None:
    summary = ROOT / "book/src/SUMMARY.md"
    listed = re.findall(r"\]\(([\w.-]+)\)", summary.read_text(encoding="utf-8"))
    assert sorted(listed) == [page.name for page in PAGES if page != summary], "SUMMARY.md lists each page of book/src once"


@each_text
def test_links_lead_somewhere(page: Path) -> None:
    missing = missing_links(page)
    assert not missing, f"{page.name}: links to files or headings that are not there: {missing}"
