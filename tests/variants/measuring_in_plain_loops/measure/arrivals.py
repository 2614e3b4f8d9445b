"""Gap after gap."""

from itertools import accumulate
from math import inf

import numpy as np

from tiny_llm_kit.course import task


@task(week=2, day=7, number=3)
def arrival_times(count: int, rate: float, burstiness: float = 1.0, seed: int = 0) -> list[float]:
    if count < 0:
        raise ValueError(f"{count} requests are too few")
    if not rate > 0:
        raise ValueError(f"a rate of {rate} is too low")
    if not burstiness > 0:
        raise ValueError(f"a burstiness of {burstiness} is too low")
    if rate == inf:
        return [0.0] * count
    if burstiness == inf:
        return [(place + 1) / rate for place in range(count)]
    random = np.random.default_rng(seed)
    return list(accumulate(random.gamma(burstiness, 1 / (rate * burstiness)) for _ in range(count)))
