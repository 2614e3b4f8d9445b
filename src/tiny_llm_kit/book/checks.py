"""`pdm run book-check`: everything that the book has to fulfil, in one list of faults."""

import tempfile
from pathlib import Path

from tiny_llm_kit.book import chapters, consoles, english, links, mdbook, sources, spelling
from tiny_llm_kit.book.pages import Fault, Page, read_pages
from tiny_llm_kit.course.course_map import Course


def find_faults(root: Path, course: Course, slow: bool = False) -> list[Fault]:
    """All faults in order of pages and lines. With `slow`, all commands on the pages are run, even those that take long.

    ValueError if the book cannot be built: its message says what is wrong with includes, signatures and formulas.
    """
    pages = read_pages(root)
    readme = Page.read(root / "README.md", root)
    allowed = english.load_allowed(root)
    faults = sources.find_unlisted(pages) + sources.find_broken_links(readme) + spelling.find_misspelled([*pages, readme], root)
    for page in [*pages, readme]:
        faults += sources.find_unknown(page, root) + sources.find_moving_links(page) + english.find_faults(page, allowed)
    for page in pages:
        faults += sources.find_wide(page) + spelling.find_repeated(page)
        faults += consoles.find_faults(page, root, slow)
    for day in course.ready_days:
        chapter = [page for name in day.pages for page in pages if page.name == name]
        faults += chapters.find_faults(chapter, day, root)
    return sorted(faults) + _built(root)


def _built(root: Path) -> list[Fault]:
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder).resolve() / "book"
        mdbook.build(root, out)
        return links.find_faults(out)
