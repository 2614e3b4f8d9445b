"""What `{{#…}}` on a page names has to be there: mdBook itself leaves a gap, and ends with 0."""

import re
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page

_DIRECTIVE = re.compile(r"(?<!\\)\{\{#(\w+)\s*([^}]*?)\s*\}\}")
_MDBOOK = {"include", "rustdoc_include", "playground", "title"}


def find_faults(page: Page) -> list[Fault]:
    """The directives of a page that mdBook could not follow, or would not know."""
    faults = []
    for found in _DIRECTIVE.finditer(page.text):
        kind, argument = found.groups()
        line = page.line_of(found.start())
        if kind in {"include", "rustdoc_include"} and (reason := _missing(page.path.parent, argument)):
            faults.append(page.fault(line, reason))
        elif kind not in _MDBOOK | {"signature"}:
            faults.append(page.fault(line, f"{found[0]}: mdBook knows {sorted(_MDBOOK)}, and this book `signature`"))
    return faults


def _missing(folder: Path, argument: str) -> str:
    """Why `file`, `file:anchor` or `file:first:last` cannot be included; "" if it can."""
    name, _, part = argument.partition(":")
    file = folder / name
    if not file.is_file():
        return f"includes {name}, which is not there: the path is from the page's own folder"
    text = file.read_text(encoding="utf-8")
    bounds = part.split(":")
    if part and all(not bound or bound.isdecimal() for bound in bounds):
        last = max((int(bound) for bound in bounds if bound), default=0)
        count = len(text.splitlines())
        return f"includes line {last} of {name}, which has {count}" if last > count else ""
    if part and not re.search(rf"ANCHOR:\s*{re.escape(part)}\b", text):
        return f"includes {argument}, but {name} has no line with `ANCHOR: {part}`"
    return ""
