"""A command's option in a line of text stays in one piece. A browser would break `--day` between its hyphens, or after them."""

import re

from tiny_llm_kit.book.pages import CODE

_CODE = re.compile(CODE, re.DOTALL | re.MULTILINE)
_OPTION = re.compile(r"--\w")


def keep_whole(text: str) -> str:
    """The page with its pieces of code that have options as HTML, in which each option is of the class `option`."""
    return _CODE.sub(lambda found: _marked(found["code"] or "") or found[0], text)


def _marked(code: str) -> str:
    """Empty if there is no option, or a bar: what that is, in a table, only Markdown knows."""
    words = re.split(r"(\s+)", code)
    if "|" in code or not any(map(_OPTION.match, words)):
        return ""
    marked = (f'<span class="option">{_harmless(word)}</span>' if _OPTION.match(word) else _harmless(word) for word in words)
    return f"<code>{''.join(marked)}</code>"


def _harmless(word: str) -> str:
    """Without characters that mean something in Markdown or HTML. A hyphen does: two of them would become a dash."""
    return re.sub(r"[^\w\s]|_", lambda found: f"&#{ord(found[0])};", word)
