"""Standard gaps, stretched."""

import numpy as np

from tiny_llm_kit.course import task


@task(week=2, day=7, number=3)
def arrival_times(count: int, rate: float, burstiness: float = 1.0, seed: int = 0) -> list[float]:
    bad = [f"{name}={value}" for name, value in {"rate": rate, "burstiness": burstiness}.items() if not value > 0]
    if count < 0 or bad:
        raise ValueError(f"{count} arrivals, {', '.join(bad)}: numbers of requests from 0 on, rates and shapes above 0")
    random = np.random.default_rng(seed)
    moment, moments = 0.0, []
    while len(moments) < count:
        gap = 1.0 if burstiness == float("inf") else float(random.standard_gamma(burstiness)) / burstiness
        moment += gap
        moments.append(moment / rate)
    return moments
