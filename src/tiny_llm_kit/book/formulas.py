"""Formulas, `$…$` in a line and `$$…$$` on their own, as MathML: the browser draws it without a script, and prints it."""

import re

from latex2mathml.converter import convert

from tiny_llm_kit.book.pages import CODE

_CODE_OR_FORMULA = re.compile(
    f"{CODE}"
    r"|(?P<escaped>\\\$)"
    r"|\$\$(?P<block>[^$]+)\$\$"
    r"|\$(?P<formula>(?=\S)[^$\n]*(?:\n[^$\n]+)?(?<=\S))\$(?!\d)",
    re.DOTALL | re.MULTILINE,
)
_UNKNOWN = re.compile(r"<m\w+[^>]*>(\\[A-Za-z]+)")
_MARKDOWN = str.maketrans({character: f"&#{ord(character)};" for character in "*_`[]\\|~$"})


def render(text: str) -> tuple[str, list[tuple[int, str]]]:
    """A page with its formulas as MathML, and the faulty ones: line and reason."""
    faults: list[tuple[int, str]] = []

    def replace(found: re.Match[str]) -> str:
        source = found["block"] or found["formula"]
        if source is None:
            return "$" if found["escaped"] else found[0]
        try:
            return _mathml(source.strip(), display=found["block"] is not None)
        except ValueError as error:
            faults.append((text.count("\n", 0, found.start()) + 1, str(error)))
            return found[0]

    return _CODE_OR_FORMULA.sub(replace, text), faults


def _mathml(source: str, display: bool) -> str:
    braces = re.findall(r"(?<!\\)[{}]", source)
    if braces.count("{") != braces.count("}"):  # which the library would pass over
        raise ValueError(f"the formula {source!r} has {braces.count('{')} opening and {braces.count('}')} closing braces")
    try:
        mathml = convert(source, display="block" if display else "inline")
    except Exception as error:  # the library's errors have no common base
        raise ValueError(f"the formula {source!r} cannot be read: {type(error).__name__} {error}") from None
    if unknown := _UNKNOWN.search(mathml):
        raise ValueError(f"the formula {source!r} has {unknown[1]}, which latex2mathml does not know")
    # Markdown reads the text between inline tags, where an asterisk or an underscore would mean something.
    harmless = re.sub(r">[^<]+<", lambda found: found[0].translate(_MARKDOWN), mathml)
    return f'<div class="formula">{harmless}</div>' if display else harmless
