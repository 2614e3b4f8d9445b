"""Requests of several tenants, each with a system prompt of its own, as in a service with many customers."""

from dataclasses import replace

import numpy as np

from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.lists import shared_prefix


def tenants(vocab_size: int, tenants: int, count: int, seed: int = 0) -> list[WorkItem]:
    """As `shared_prefix`, with a beginning of 400 tokens per tenant; whose request comes next is drawn at random.

    Tenants are of unequal size: the n-th sends in proportion to 1 / n (Zipf's law), as customers do.

    Raises:
        ValueError: if there is not at least one tenant and one request.
    """
    if tenants < 1 or count < 1:
        raise ValueError(f"{tenants} tenants and {count} requests: there must be at least 1 of each")
    random = np.random.Generator(np.random.PCG64(seed))
    weights = 1 / np.arange(1, tenants + 1)
    drawn = random.choice(tenants, size=count, p=weights / weights.sum())
    lists = [
        iter(shared_prefix(vocab_size, seed=int(random.integers(2**31)), count=int(number)) if number else [])
        for number in np.bincount(drawn, minlength=tenants)
    ]
    return [replace(next(lists[tenant]), title=f"tenant {tenant}") for tenant in drawn]
