"""How long the longest is, from the probability that anybody is still at work; continuous batching, played step by step."""

from collections import Counter
from collections.abc import Sequence
from itertools import zip_longest
from math import expm1, log

from tiny_llm_kit.course import task


def _batched(batch_size: int) -> int:
    if batch_size > 0:
        return batch_size
    raise ValueError(f"batches of {batch_size} answers")


@task(week=2, day=7, number=8)
def expected_longest(lengths: Sequence[int], batch_size: int) -> float:
    _batched(batch_size)
    if not lengths:
        raise ValueError(f"no answers in {lengths}")
    total, shorter, before, longest = len(lengths), 0, 0, 0.0
    for length, count in sorted(Counter(lengths).items()):
        # All are longer than `before`; up to here, a batch has somebody who is.
        longest += (length - before) * (-expm1(batch_size * log(shorter / total)) if shorter else 1)
        shorter, before = shorter + count, length
    return longest


@task(week=2, day=7, number=8)
def predicted_ratio(lengths: Sequence[int], batch_size: int) -> float:
    longest = expected_longest(lengths, batch_size)
    return longest / (sum(lengths) / len(lengths))


@task(week=2, day=7, number=8)
def static_steps(lengths: Sequence[int], batch_size: int) -> int:
    groups = zip_longest(*[iter(lengths)] * min(_batched(batch_size), len(lengths)), fillvalue=0)
    return sum(map(max, groups))


@task(week=2, day=7, number=8)
def continuous_steps(lengths: Sequence[int], batch_size: int) -> int:
    free, now, ending = _batched(batch_size), 0, Counter[int]()
    for length in lengths:
        if not free:
            now = min(ending)
            free = ending.pop(now)
        ending[now + length] += 1
        free -= 1
    return max(ending, default=0)
