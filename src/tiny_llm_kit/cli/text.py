"""Untrusted text on a terminal: prompts, answers and paths may hold characters that a terminal would obey."""

import unicodedata

KEPT = "\n\t"
_PICTURES = 0x2400
"""Unicode's pictures of the control characters 0 to 31, in their order; 127 has its own."""


def harmless(text: str) -> str:
    """The same text with control characters shown (an escape as ␛) instead of sent, and stray surrogates written as \\udXXX.

    Escape sequences can recolour and rewrite a terminal, and set its title; surrogates cannot be printed at all.
    """
    return "".join(map(_shown, text)) if not text.isprintable() else text


def _shown(character: str) -> str:
    code = ord(character)
    if character in KEPT or unicodedata.category(character) not in ("Cc", "Cs"):
        return character
    if code < 32:
        return chr(_PICTURES + code)
    return "␡" if code == 127 else ascii(character)[1:-1]


_NO_MARKUP = {code: _shown(chr(code)) for code in (*range(32), 127, *range(0xD800, 0xE000))}
_NO_MARKUP |= dict.fromkeys((0xFFFE, 0xFFFF), "\N{REPLACEMENT CHARACTER}")


def for_markup(text: str) -> str:
    """HTML or SVG without the characters that XML forbids, shown as by `harmless`: no viewer opens a picture that has one."""
    return text.translate(_NO_MARKUP)
