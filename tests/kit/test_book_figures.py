"""The figures of the book: each is what its module draws, says in words what it shows, and is readable in light and dark."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from click.testing import CliRunner

from tiny_llm_kit import figures
from tiny_llm_kit.cli.figures import main
from tiny_llm_kit.course.course_map import find_root
from tiny_llm_kit.figures import recorded

ROOT = find_root(Path(__file__))
each_figure = pytest.mark.parametrize("name", figures.NAMES)


@each_figure
def test_a_figure_is_what_is_drawn_now(name: str) -> None:
    assert not figures.is_stale(ROOT, name), f"the book's figure is an older one: pdm run figures {name}"


@each_figure
def test_a_figure_says_what_it_shows(name: str) -> None:
    tree = ElementTree.fromstring(figures.place(ROOT, name).read_text(encoding="utf-8"))
    title = tree.find("{*}title")
    assert tree.get("role") == "img"
    assert title is not None, "a screen reader has only the title"
    assert len(title.text or "") > 60, "the title should say in a sentence what the figure shows"


@each_figure
def test_all_colours_follow_light_and_dark(name: str) -> None:
    svg = figures.place(ROOT, name).read_text(encoding="utf-8")
    drawn = svg[svg.index("</style>") :]
    own = re.findall(r"(?:fill|stroke): #\w+", drawn)
    assert not own, f"colours of its own, {own}: take those of figures/style.py"


@each_figure
def test_a_page_shows_the_figure(name: str) -> None:
    pages = "".join(page.read_text(encoding="utf-8") for page in (ROOT / "book/src").glob("*.md"))
    assert f"(images/{name}.svg)" in pages


def test_a_figure_that_nobody_knows_is_refused() -> None:
    result = CliRunner().invoke(main, ["no-such-figure"])
    assert result.exit_code == 2
    assert "no-such-figure" in result.output
    assert figures.NAMES[0] in result.output


def test_a_measurement_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"predict\.json: cannot be read"):
        recorded.load(tmp_path, "predict")


def test_list_and_check_write_nothing() -> None:
    listed = CliRunner().invoke(main, ["--list"])
    assert listed.output.split() == list(figures.NAMES)
    checked = CliRunner().invoke(main, ["--check", figures.NAMES[0]])
    assert checked.exit_code == 0, checked.output
