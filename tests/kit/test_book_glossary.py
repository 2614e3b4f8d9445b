"""The glossary: in order, one entry per term, each with a link that leads on; and every figure of the code has its row."""

import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path

import pytest

from tiny_llm_kit.course.course_map import find_root
from tiny_llm_ref.measure.request_times import RequestTimes
from tiny_llm_ref.measure.summary import Spread, Summary
from tiny_llm_ref.metrics import BatchingMetrics
from tiny_llm_ref.paged.metrics import PagedMetrics
from tiny_llm_ref.replicas.fleet_report import FleetReport
from tiny_llm_ref.server.metrics import ServerMetrics

FOLDER = find_root(Path(__file__)) / "book/src"
TEXT = (FOLDER / "glossary.md").read_text(encoding="utf-8")
_ENTRY = re.compile(r"^(?P<term>\S[^\n]*)\n: (?P<meaning>[^\n]+(?:\n  [^\n]+)*)$", re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\((?P<page>[\w.-]+\.md)(?:#[\w-]+)?\)$")
FIGURES = (int, float, float | None, Spread, list[float], list[float] | None)

ENTRIES = {found["term"]: found["meaning"] for found in _ENTRY.finditer(TEXT)}


def place(term: str) -> str:
    """Capitals, hyphens and spaces do not count in the order."""
    return " ".join(re.findall(r"[a-z0-9]+", term.casefold()))


def stored_in(report: type) -> Iterator[str]:
    yield from (each.name for each in fields(report) if each.type in FIGURES and not each.name.startswith("_"))


def computed_by(report: type) -> Iterator[str]:
    for name, member in vars(report).items():
        if isinstance(member, property) and member.fget and member.fget.__annotations__.get("return") in FIGURES:
            yield name


class NothingYet:
    """A snapshot of an engine that has done nothing."""

    def __getattr__(self, name: str) -> int:
        return 0


def test_each_paragraph_under_a_letter_is_a_term_and_its_meaning() -> None:
    entries = TEXT[TEXT.index("\n## A\n") : TEXT.index("\n## Names of figures")]
    for paragraph in entries.strip().split("\n\n"):
        if not re.fullmatch("## [A-Z]", paragraph):
            assert _ENTRY.fullmatch(paragraph), f"write the term on one line, and ': ' and its meaning below: {paragraph!r}"


def test_terms_are_in_alphabetical_order_once_each() -> None:
    terms = [found["term"] for found in _ENTRY.finditer(TEXT)]
    assert len(terms) > 100, f"only {len(terms)} entries were found: a term, then a line that begins with ': '"
    assert terms == sorted(terms, key=place), "put each term where it belongs"
    assert len({place(term) for term in terms}) == len(terms), "a term is there twice"


def test_each_term_stands_under_its_letter() -> None:
    letter = ""
    for line in re.findall(r"^## [A-Z]$|^\S.*(?=\n: )", TEXT, re.MULTILINE):
        if line.startswith("## "):
            letter = line[3:]
        else:
            assert place(line)[0].upper() == letter, f"{line!r} is under {letter!r}"


@pytest.mark.parametrize("term", ENTRIES)
def test_an_entry_is_short_and_leads_to_a_page(term: str) -> None:
    meaning = " ".join(ENTRIES[term].split())
    link = _LINK.search(meaning)
    assert link, f"{term}: ends with the link to the page that explains it"
    assert (FOLDER / link["page"]).is_file(), f"{term}: there is no {link['page']}"
    said = meaning[: link.start()].strip()
    assert said.endswith("."), f"{term}: says in a sentence or two what it means"
    assert len(re.findall(r"[.?!](?= |$)", said)) <= 2, f"{term}: one or two sentences, and the page has the rest"


@pytest.mark.parametrize("term", [term for term, meaning in ENTRIES.items() if meaning.startswith("See ")])
def test_see_names_another_entry(term: str) -> None:
    other = re.match(r"See ([^.]+)\.", ENTRIES[term])
    assert other, f"{term}: 'See …' names one entry"
    assert place(other[1]) in map(place, ENTRIES), f"{term} sends the reader to {other[1]!r}, which has no entry"


@pytest.mark.parametrize("report", [Summary, BatchingMetrics, PagedMetrics, FleetReport])
def test_the_figures_of_a_report_have_a_row(report: type) -> None:
    names = [*stored_in(report), *computed_by(report)]
    lacking = [name for name in names if f"`{name}`" not in TEXT]
    assert names
    assert not lacking, f"{report.__name__} has figures that 'Names of figures' does not explain: {lacking}"


def test_the_times_of_a_request_have_a_row() -> None:
    names = list(computed_by(RequestTimes))
    lacking = [name for name in names if f"`{name}`" not in TEXT]
    assert names
    assert not lacking, f"RequestTimes computes what 'Names of figures' does not explain: {lacking}"


def test_the_metrics_of_the_server_have_a_row() -> None:
    families = ServerMetrics("model", NothingYet).registry.collect()
    names = [family.name + "_total" * (family.type == "counter") for family in families]
    lacking = [name for name in names if f"`{name}`" not in TEXT]
    assert names
    assert not lacking, f"/metrics has names that 'Names of figures' does not explain: {lacking}"
