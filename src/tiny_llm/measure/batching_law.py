"""How much longer static batches take than continuous ones, from the lengths of the answers alone.

A static batch of B runs for as many steps as its longest answer, while a slot of a continuous batch needs only the mean: the
ratio of the steps is about E[longest of B] / mean, if slots are never empty and a step takes the same time in both.
"""

from collections.abc import Sequence
from heapq import heapreplace
from itertools import pairwise
from statistics import fmean

from tiny_llm_kit.course import task


@task(week=2, day=7, number=8)
def expected_longest(lengths: Sequence[int], batch_size: int) -> float:
    """The mean of the longest of `batch_size` answers, each drawn independently from `lengths`. Exact, without drawing.

    One answer is at most x tokens long with probability F(x), the share of the lengths up to x; all of B answers are with
    probability F(x)^B.

    Raises:
        ValueError: if there are no lengths or `batch_size` is less than 1.
    """
    raise NotImplementedError("Week 2 Day 7, task 8: the law of batching. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=8)
def predicted_ratio(lengths: Sequence[int], batch_size: int) -> float:
    """The law: E[longest of B] / mean. For what is raised see `expected_longest`."""
    raise NotImplementedError("Week 2 Day 7, task 8: the law of batching. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=8)
def static_steps(lengths: Sequence[int], batch_size: int) -> int:
    """The steps that a list of answers takes in groups, in order; the last group has what is left over. 0 for no answers.

    Raises:
        ValueError: if `batch_size` is less than 1.
    """
    raise NotImplementedError("Week 2 Day 7, task 8: the law of batching. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=8)
def continuous_steps(lengths: Sequence[int], batch_size: int) -> int:
    """The steps that the same list takes if each answer, in order, begins when a slot becomes free. 0 for no answers.

    Raises:
        ValueError: if `batch_size` is less than 1.
    """
    raise NotImplementedError("Week 2 Day 7, task 8: the law of batching. Read book/src/week2-07-measuring.md")


def _check(batch_size: int) -> None:
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}: a batch has at least 1 slot")
