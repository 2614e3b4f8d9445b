"""What other machines can do at best, as published: for rooflines of machines that you do not have."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

PUBLISHED = Path(__file__).parent / "data" / "published.toml"


@dataclass(frozen=True)
class Published:
    """A machine's limits, read and not measured.

    Args:
        title: the machine, in words.
        flops: operations per second, in half precision and without sparsity.
        bandwidth: bytes per second from memory.
        source: who says so, and where.
    """

    title: str
    flops: float
    bandwidth: float
    source: str


def published_machines() -> dict[str, Published]:
    """All of them, by the short names that programs take: "m1" … "m4-max", "h100", "h200"."""
    return {name: Published(**values) for name, values in tomllib.loads(PUBLISHED.read_text(encoding="utf-8")).items()}
