"""When requests arrive: at random, evenly or in bursts, at a mean rate that does not depend on how busy the server is."""

from math import isinf

import numpy as np

from tiny_llm_kit.course import task


@task(week=2, day=7, number=3)
def arrival_times(count: int, rate: float, burstiness: float = 1.0, seed: int = 0) -> list[float]:
    """Seconds at which `count` requests arrive, ascending, the first one after a first gap.

    The gaps are drawn independently from a gamma distribution with mean 1 / rate and shape `burstiness`, as vLLM's benchmark
    does: 1 is a Poisson process, where arrivals are independent of one another, less is burstier, and more is steadier; with
    infinity all gaps are equal. The variance of a gap is 1 / (burstiness × rate²).

    Args:
        rate: requests per second. With infinity all arrive at 0.
        seed: a different seed gives different times; the same one gives the same times on every machine, and at another rate
            the same times scaled.
    Raises:
        ValueError: if `count` is negative, or `rate` or `burstiness` is not above 0.
    """
    raise NotImplementedError("Week 2 Day 7, task 3: when requests arrive. Read book/src/week2-07-measuring.md")
