"""What mdBook calls between reading and rendering: signatures are put in, formulas become MathML, tables keep their units,
and options stay whole.

The protocol: `supports RENDERER` is answered by the exit code; otherwise [context, book] comes as JSON on standard input, and
the book goes back to standard output (mdBook's guide, "Preprocessors").
"""

import json
import sys
from pathlib import Path
from typing import Any

from tiny_llm_kit.book import formulas, includes, options, signatures, units
from tiny_llm_kit.book.pages import Fault, Page


def prepare(page: Page, root: Path) -> tuple[str, list[Fault]]:
    """What mdBook renders in place of a page, and the page's faults."""
    faults = includes.find_faults(page)
    text, missing = signatures.expand(page, root)
    # The lines of the page itself, which differ from those of the text once a signature has been inserted.
    _, unreadable = formulas.render(page.text)
    rendered, _ = formulas.render(text)
    return options.keep_whole(units.keep_together(rendered)), faults + missing + [
        page.fault(line, reason) for line, reason in unreadable
    ]


def prepare_book(context: dict[str, Any], book: dict[str, Any]) -> list[Fault]:
    """Replaces the content of each chapter."""
    folder = Path(context["root"])
    source = folder / context["config"]["book"].get("src", "src")
    faults = []
    waiting = list(book["items"])
    while waiting:
        item = waiting.pop()
        chapter = item.get("Chapter") if isinstance(item, dict) else None  # otherwise a separator, or the title of a part
        if chapter is None:
            continue
        waiting += chapter["sub_items"]
        if chapter["path"] is not None:
            path = source / chapter["path"]
            page = Page(path, path.relative_to(folder.parent).as_posix(), chapter["content"])
            chapter["content"], found = prepare(page, folder.parent)
            faults += found
    return sorted(faults)


def main() -> None:
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0 if sys.argv[2] == "html" else 1)
    context, book = json.load(sys.stdin)
    if faults := prepare_book(context, book):
        sys.exit("\n".join(map(str, faults)))
    json.dump(book, sys.stdout)


if __name__ == "__main__":
    main()
