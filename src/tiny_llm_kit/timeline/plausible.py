"""Whether a run that was read from a file can be drawn: it may have been edited, or written by another program."""

from collections.abc import Iterator
from dataclasses import fields
from itertools import chain
from types import UnionType
from typing import Any, get_args, get_origin

from tiny_llm_kit.timeline.run import Run

MOST = 10**12
"""The most seconds, steps or tokens."""
MOST_LANES = 10**6


def check_run(run: Run) -> None:
    """Raises ValueError if a figure is of another type than it should be, out of all bounds, or of a lane that is not there."""
    for thing in _parts(run):
        for field in fields(thing):
            value = getattr(thing, field.name)
            if not _fits(value, field.type):
                raise ValueError(f"{field.name} is {str(value)[:40]!r}")
    if run.duration < 0:
        raise ValueError(f"the run takes {run.duration} s")
    lanes = 1 + max((stay.lane for life in run.lives for stay in life.stays), default=-1)
    if not lanes <= run.lanes <= MOST_LANES:
        raise ValueError(f"there are {run.lanes} lanes, and {lanes} are used")


def _parts(run: Run) -> Iterator[Any]:
    stays = list(chain.from_iterable(life.stays for life in run.lives))
    return chain([run], run.samples, run.lives, stays, chain.from_iterable(stay.chunks for stay in stays))


def _fits(value: Any, kind: Any) -> bool:
    if isinstance(kind, UnionType):
        return any(_fits(value, one) for one in get_args(kind))
    if get_origin(kind) is list:
        (item,) = get_args(kind)
        return isinstance(value, list) and all(_fits(one, item) for one in value)
    if isinstance(value, bool):
        return kind is bool
    if kind is int:
        return isinstance(value, int) and 0 <= value <= MOST
    if kind is float:
        return isinstance(value, int | float) and -MOST <= value <= MOST
    return isinstance(value, kind)
