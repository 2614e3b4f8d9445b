"""The worked example of week 1: the chapters show what the reference computes, and a stub is named."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

import tiny_llm_ref
from tiny_llm_kit.book.consoles import find_commands
from tiny_llm_kit.book.pages import Page
from tiny_llm_kit.cli.three_tokens import main
from tiny_llm_kit.course.course_map import find_root, load_course
from tiny_llm_kit.course.three_tokens import DAYS, tell
from tiny_llm_kit.models.three_tokens import CONFIG, EMBEDDING, END, HEAD, PROMPT, WORDS

ROOT = find_root()
each_day = pytest.mark.parametrize("day", range(1, DAYS + 1))
NUMBER = re.compile(r"-?\d+\.\d+")

# The pages show three digits; the last one may differ where another machine rounds at its border.
TOLERANCE = 0.0011


def page_of(day: int) -> Page:
    return Page.read(ROOT / load_course(ROOT).find_day(1, day).chapter, ROOT)


@each_day
def test_the_chapter_shows_what_the_reference_computes(day: int) -> None:
    command = f"pdm run three-tokens --day {day} --solution ref"
    page = page_of(day)
    shown = ["\n".join(found.output) for found in find_commands(page) if found.command == command]
    assert len(shown) == 1, f"{page.name} shows {command} once, in a console block"
    printed = "\n\n".join(tell(tiny_llm_ref, day))
    assert NUMBER.sub("#", shown[0]).split() == NUMBER.sub("#", printed).split(), f"{page.name} should show:\n{printed}"
    numbers = [[float(number) for number in NUMBER.findall(text)] for text in (shown[0], printed)]
    np.testing.assert_allclose(*numbers, atol=TOLERANCE, err_msg=f"{page.name} should show:\n{printed}")


@each_day
def test_a_stub_is_named(day: int) -> None:
    result = CliRunner().invoke(main, ["--day", str(day)])
    assert result.exit_code == 2
    assert "Week 1 Day" in result.output
    assert "--solution ref" in result.output


@pytest.mark.parametrize("day", ["0", "8", "one"])
def test_a_day_that_week_1_does_not_have_is_refused(day: str) -> None:
    result = CliRunner().invoke(main, ["--day", day])
    assert result.exit_code == 2
    assert day in result.output


def test_an_unknown_solution_is_refused() -> None:
    result = CliRunner().invoke(main, ["--day", "1", "--solution", "nobody"])
    assert result.exit_code == 2
    assert "nobody" in result.output


def test_the_overview_shows_the_models_two_tables() -> None:
    overview = (ROOT / "book/src/week1-overview.md").read_text(encoding="utf-8")
    for token, word in enumerate(WORDS):
        cells = ["(" + ", ".join(map(str, table[token])).replace("-", "−") + ")" for table in (EMBEDDING, HEAD)]
        assert f"| {token} | {word} | {cells[0]} | {cells[1]} |" in overview


def test_the_numbers_are_those_of_numpy() -> None:
    """The whole model once more, without an answer package: the logits of the last position."""
    x = np.array([EMBEDDING[token] for token in PROMPT], dtype=float)
    angles = np.arange(len(x))[:, None] * CONFIG.rope_theta ** -np.array([0, 0.5])
    a, b = x[:, :2], x[:, 2:]
    turned = np.concatenate([a * np.cos(angles) - b * np.sin(angles), b * np.cos(angles) + a * np.sin(angles)], axis=1)
    weights = np.exp(turned @ turned[-1] / 2)
    hidden = x[-1] + weights / weights.sum() @ x
    normed = _normalize(hidden)
    hidden = hidden + normed**2 / (1 + np.exp(-normed))
    expected = np.array(HEAD) @ _normalize(hidden)
    last = next(tell(tiny_llm_ref, 5)).splitlines()[-1]
    assert last.split()[0] == WORDS[PROMPT[-1]]
    np.testing.assert_allclose([float(number) for number in last.split()[1:]], expected, atol=TOLERANCE)


def test_the_text_goes_on_and_ends() -> None:
    assert list(tell(tiny_llm_ref, 6))[-1] == "yielded: on the mat"
    assert WORDS[END] == "."


def _normalize(x: np.ndarray) -> np.ndarray:
    return x / np.sqrt(np.mean(x**2) + CONFIG.rms_norm_eps)
