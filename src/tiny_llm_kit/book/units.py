"""In the tables of a page a number stays on one line with its unit, and a spread in one piece: their spaces do not break."""

import re

NO_BREAK = "\N{NO-BREAK SPACE}"

_TABLE_ROW = re.compile(r"^\|.*\|$", re.MULTILINE)
_CODE = re.compile(r"(`+.*?`+)")
_BEFORE_UNIT = re.compile(r"(?<=\d) (?=(?:[mµn]?s|[KMG]i?B|%|×)(?![\w/]))")
_IN_SPREAD = re.compile(r" … (?=\d)")


def keep_together(text: str) -> str:
    """The page with such spaces; code stays as it is, so it still runs when it is copied."""
    return _TABLE_ROW.sub(lambda row: "".join(map(_joined, _CODE.split(row[0]))), text)


def _joined(part: str) -> str:
    if part.startswith("`"):
        return part
    return _IN_SPREAD.sub(f"{NO_BREAK}…{NO_BREAK}", _BEFORE_UNIT.sub(NO_BREAK, part))
