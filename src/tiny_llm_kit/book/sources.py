"""What a page or the README says about the repository: commands of pdm, files, the list of pages; and that code fits."""

import re
import tomllib
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page, columns
from tiny_llm_kit.book.signatures import WIDEST

_COMMAND = re.compile(r"\bpdm run ([\w-]+)")
_FILE = re.compile(r"(?<![\w/])(?:src|tests|scripts|book)/[\w/.-]*\w")  # not a part of an address
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_BRANCH = re.compile(r"https://github\.com/[\w-]+/[\w.-]+/(?:blob|tree|raw)/([^\s\d/)]+)(?=[\s/)])")  # versions have digits
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def find_wide(page: Page) -> list[Fault]:
    return [
        page.fault(number, f"{columns(line)} columns of code, of which {WIDEST} are seen: draw it narrower")
        for number, line in page.code_lines
        if columns(line) > WIDEST
    ]


def find_unknown(page: Page, root: Path) -> list[Fault]:
    """Commands that pdm does not run, and files that are not there."""
    scripts = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pdm"]["scripts"]
    faults = [
        page.fault(page.line_of(found.start()), f"pdm runs no {found[1]}: see [tool.pdm.scripts]")
        for found in _COMMAND.finditer(page.text)
        if found[1] not in scripts and found[1] != "python"
    ]
    return faults + [
        page.fault(page.line_of(found.start()), f"names {found[0]}, which is not there")
        for found in _FILE.finditer(page.text)
        if not (root / found[0]).exists()
    ]


def find_broken_links(page: Page) -> list[Fault]:
    """Links of Markdown that is read as such, like the README; those of the book are checked once it is built."""
    return [
        page.fault(page.line_of(found.start()), f"leads to {found[1]}, which is not there")
        for found in _LINK.finditer(page.text)
        if not re.match(r"\w+:", found[1]) and not _leads(page, found[1])
    ]


def find_moving_links(page: Page) -> list[Fault]:
    """Links to files of other projects at a branch: the file may say something else tomorrow."""
    return [
        page.fault(page.line_of(found.start()), f"links to the branch {found[1]!r}, which moves: name a release or a commit")
        for found in _BRANCH.finditer(page.text)
    ]


def _leads(page: Page, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = page.path.parent / name if name else page.path
    if not target.exists():
        return False
    headings = _HEADING.findall(target.read_text(encoding="utf-8")) if anchor else []
    return not anchor or anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def find_unlisted(pages: list[Page]) -> list[Fault]:
    """SUMMARY.md lists each page once."""
    names = [page.path.name for page in pages]
    summary = next((page for page in pages if page.path.name == "SUMMARY.md"), None)
    if summary is None:
        return [Fault("book/src/SUMMARY.md", 0, "is not there")]
    listed = re.findall(r"\]\(([\w.-]+)\)", summary.text)
    return [
        summary.fault(0, f"lists {name} {listed.count(name)} times")
        for name in names
        if name != "SUMMARY.md" and listed.count(name) != 1
    ]
