"""A few turns of phrase that the house style avoids. The rules are few and certain: good English must pass.

Phrases that look like faults but are right are listed in `book/allowed.txt`, one per line.
"""

import re
from pathlib import Path

from tiny_llm_kit.book.pages import Fault, Page

ALLOWED = "book/allowed.txt"

_MEASURES = (
    "tokens|bytes|bits|requests|steps|numbers|keys|values|pages|blocks|calls|rows|milliseconds|seconds|products|reads|passes|"
    "slots|slabs|heads|loads|barriers|queries|answers|ms|µs|KiB|MiB|GiB"
)
_MEASURE = "token|byte|bit|request|step|number|key|value|page|block|call|row|read|slot|slab|load|answer|norm|kernel"
_UNITS = (
    "token|request|row|slot|layer|step|head|query|key|second|minute|page|block|iteration|lane|thread|number|call|batch|line|"
    "prompt|answer|pass|group|matrix|product|weight|element|entry|tile|team|run|replica|task"
)
_NOBODY = r"(?:some|no|every|any)body"
_DONE_BY_REQUESTS = (
    r"waits?|waited|runs?|ran|decodes?|joins?|joined|arrives?|arrived|(?:is|was)\s(?:served|admitted|preempted|ranked|computed)"
)
_DONE_TO_REQUESTS = r"serves?|admits?|preempts?|ranks?|evicts?|computed\sfor|rows?\sfor"
_IN_ORDER = "row|sequence|last|first|match|new|known|knee|length|gap|drafts?|tokens?|blocks?"
_RULES = [
    (
        re.compile(rf"\b(?:one\s(?:{_MEASURE})|(?:two|three|four)\s(?!times)\w+s)\san?\s(?:{_UNITS})\b"),
        "write 'per': one slab per layer",
    ),
    (re.compile(rf"\b(?:{_MEASURES})\san?\s(?:{_UNITS})\b"), "write 'per': tokens per second"),
    (
        re.compile(r"(?:(?<=[.?!:]\s)|(?<=\n\n)|(?<=^- ))Of\s(?:[^.,?!]|\.\d)*[.?!](?!\S)", re.MULTILINE),
        "a sentence has a subject and a verb",
    ),
    (re.compile(r"\bbeside\b"), "write 'alongside', 'next to' or 'besides'"),
    (re.compile(rf"\bbehind\s(?:its\sown|each|all|a\swrong|the\s(?:{_IN_ORDER}))\b"), "write 'after'"),
    (re.compile(r"\b(?:−inf|at\sor)\sbehind\b"), "write 'after'"),
    (re.compile(rf"\bso\smany\s(?:more\s)?(?:{_MEASURES})\b(?![^.;:]*\bthat\b)"), "write 'this many'"),
    (re.compile(r"\b[Ww]here\sthey\slie\b"), "write 'in place', or 'where they are'"),
    (re.compile(r"\bin\smid-stream\b"), "write 'mid-stream'"),
    (re.compile(r"\banyhow\b"), "write 'anyway'"),
    (
        re.compile(
            rf"\b(?:whoever|{_NOBODY}\s(?:else\s)?(?:{_DONE_BY_REQUESTS})|(?:{_DONE_TO_REQUESTS})\s{_NOBODY}|{_NOBODY}'s\s(?:{_MEASURE})s?)\b",
            re.IGNORECASE,
        ),
        "name what it is: a request, a client, a replica",
    ),
]


def load_allowed(root: Path) -> list[str]:
    file = root / ALLOWED
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line for line in lines if line and not line.startswith("#")]


def find_faults(page: Page, allowed: list[str]) -> list[Fault]:
    """The phrases of a page that the style avoids."""
    faults = []
    for rule, remedy in _RULES:
        for found in rule.finditer(page.prose):
            if not _stands_in(found, page.prose, allowed):
                phrase = " ".join(found[0].split())
                faults.append(page.fault(page.line_of(found.start()), f"{phrase!r}: {remedy}"))
    return faults


def _stands_in(found: re.Match[str], text: str, allowed: list[str]) -> bool:
    """Whether what was found is part of a phrase that is allowed; a line may end anywhere in it."""
    around = re.compile("|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in allowed) or r"(?!)")
    return any(
        match.start() <= found.start() and found.end() <= match.end()
        for match in around.finditer(text, max(0, found.start() - 80), found.end() + 80)
    )
