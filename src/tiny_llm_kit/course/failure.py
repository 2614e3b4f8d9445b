"""What is known of a test that failed, as it goes from the process of the tests to the one that tells of it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["stub", "wrong", "raised", "endless", "crashed", "unimportable"]

EXPECTED = "expected  "
"""What the second of two sequences begins with that are drawn over each other."""

STUB = re.compile(r"Week (\d+) Day (\d+), task (\d+): ")


@dataclass(frozen=True)
class Failure:
    """`why` is one line, `picture` some; each of the others is one, or "" where there is nothing to tell."""

    kind: Kind
    why: str
    called: str = ""
    checked: str = ""
    given: tuple[str, ...] = ()
    got: str = ""
    expected: str = ""
    picture: tuple[str, ...] = ()
    where: str = ""
    kept: str = ""
    printed: tuple[str, ...] = ()
    example: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, table: dict[str, Any]) -> "Failure":
        fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in table.items()}
        return cls(**fields)


def is_drawn(picture: Iterable[str]) -> bool:
    """Whether a picture holds both of the sequences that differ, so that nothing is left to say of them."""
    return any(line.startswith(EXPECTED) for line in picture)
