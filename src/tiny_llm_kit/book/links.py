"""The links of the built book: each leads to an existing page and place, and no page needs the internet."""

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag

from tiny_llm_kit.book.pages import Fault

_LOADED = {"script", "img", "link", "iframe", "source", "video", "audio", "image", "use"}
_OUTSIDE = re.compile(r"(?:[a-z][a-z0-9+.-]*:|//)", re.IGNORECASE)
_IN_STYLE = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])((?:https?:)?//[^'\")]+)")


@dataclass
class _Html(HTMLParser):
    """What one page has: what may follow a `#`, and where its tags lead, with their lines."""

    ids: set[str] = field(default_factory=set)
    targets: list[tuple[int, str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name == "id" or (name == "name" and tag == "a"):
                self.ids.add(value or "")
            elif name in {"href", "src", "xlink:href"} and value:
                self.targets.append((self.getpos()[0], tag, value))


def find_faults(folder: Path) -> list[Fault]:
    """The faults in all pages and style sheets of a built book. Links with https lead out of it, and are not followed."""
    pages = {}
    for path in sorted(folder.rglob("*.html")):
        if path.name != "404.html":  # a server shows it at any address, so its links begin at the root
            pages[path] = _Html()
            pages[path].feed(path.read_text(encoding="utf-8"))
    faults = [
        Fault(path.relative_to(folder).as_posix(), line, reason)
        for path, page in pages.items()
        for line, tag, target in page.targets
        if (reason := _judge(path, tag, target, pages))
    ]
    for path in sorted(folder.rglob("*.css")):
        for found in _IN_STYLE.finditer(path.read_text(encoding="utf-8")):
            faults.append(Fault(path.relative_to(folder).as_posix(), 0, f"loads {found[1]}, but the book is read offline"))
    return faults


def _judge(path: Path, tag: str, target: str, pages: dict[Path, _Html]) -> str:
    """What is wrong with a link; "" for a good one."""
    if target.startswith("data:"):
        return ""
    if _OUTSIDE.match(target):
        if tag in _LOADED:
            return f"loads {target}, but the book is read offline: keep a copy in book/src"
        return "" if target.startswith("https://") else f"leads to {target}: links lead to pages of the book, or to https://…"
    name, fragment = map(unquote, urldefrag(target))
    goal = (path.parent / name.partition("?")[0]).resolve() if name else path
    if goal.is_dir():
        goal /= "index.html"
    if not goal.exists():
        return f"leads to {target}, which is not there"
    if fragment and goal in pages and fragment not in pages[goal].ids:
        return f"leads to {target}, but that page has no heading or element #{fragment}"
    return ""
