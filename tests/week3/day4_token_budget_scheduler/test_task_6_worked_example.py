"""Week 3 Day 4, task 6: the first two predictions of the chapter, in the engine."""

import pytest

from paged_engines import engine, tokens_per_step
from support import CountingModel, ToyModel, assert_alone
from worked_example import LIMITS, POOL, TOKENS, TOKENS_WITH_CACHE, make_requests


@pytest.mark.parametrize(("prefix_caching", "expected"), [(False, TOKENS), (True, TOKENS_WITH_CACHE)])
def test_task_6_worked_example(toy: ToyModel, prefix_caching: bool, expected: list[int]) -> None:
    model = CountingModel(toy)
    served = engine(model, **POOL, **LIMITS, prefix_caching=prefix_caching)
    requests = make_requests()
    for request in requests.values():
        served.submit(request)
    given = tokens_per_step(model, served)
    assert given == expected, (
        f"predictions 1 and 2, with prefix_caching={prefix_caching}: the steps give the model {expected} tokens, not {given}"
    )
    preemptions = {name: request.preemptions for name, request in requests.items()}
    assert preemptions == {"A": 0, "B": 1, "C": 1}, "C loses its blocks in step 4, and B in step 6"
    assert served.metrics.prefix_cache_hits == 0, "what B finds in step 9 is its own, and that is no hit"
    assert_alone(toy, *requests.values())
