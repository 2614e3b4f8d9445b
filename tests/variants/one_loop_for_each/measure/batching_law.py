"""The longest length by the probability that it is the longest; slots are a list of what each has still to do."""

from bisect import bisect_right, insort
from collections.abc import Sequence
from math import fsum

from tiny_llm_kit.course import task


@task(week=2, day=7, number=8)
def expected_longest(lengths: Sequence[int], batch_size: int) -> float:
    if batch_size < 1:
        raise ValueError(f"a batch of {batch_size} has no longest answer")
    if len(lengths) == 0:
        raise ValueError("of no lengths none is the longest")
    ordered, parts, before = sorted(lengths), [], 0.0
    for length in sorted(set(ordered)):
        upto = (bisect_right(ordered, length) / len(ordered)) ** batch_size
        parts.append(length * (upto - before))
        before = upto
    return fsum(parts)


@task(week=2, day=7, number=8)
def predicted_ratio(lengths: Sequence[int], batch_size: int) -> float:
    return expected_longest(lengths, batch_size) * len(lengths) / sum(lengths)


@task(week=2, day=7, number=8)
def static_steps(lengths: Sequence[int], batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"nobody is served by {batch_size} at a time")
    steps, left = 0, list(lengths)
    while left:
        group, left = left[:batch_size], left[batch_size:]
        steps += max(group)
    return steps


@task(week=2, day=7, number=8)
def continuous_steps(lengths: Sequence[int], batch_size: int) -> int:
    if batch_size < 1:
        raise ValueError(f"nobody is served by {batch_size} slots")
    ends: list[int] = []  # of those who have a slot, ascending
    for length in lengths:
        start = ends.pop(0) if len(ends) == batch_size else 0
        insort(ends, start + length)
    return ends[-1] if ends else 0
