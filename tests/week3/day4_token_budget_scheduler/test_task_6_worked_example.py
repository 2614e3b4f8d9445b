"""Week 3 Day 4, task 6: the first three predictions of the chapter, in the engine."""

import pytest

from paged_engines import ask, engine, serve, tokens_per_step
from support import CountingModel, ToyModel, assert_alone, refuses
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


def test_task_6_the_last_token_needs_no_block(toy: ToyModel) -> None:
    served = engine(toy, num_blocks=4, block_size=16, max_seq_len=100)
    with refuses(ValueError, "prediction 3: 60 + 6 tokens, of which 65 are computed on, and 4 blocks of 16 hold 64"):
        served.submit(ask(60, 6))
    request = ask(60, 5)
    serve(served, request)
    assert_alone(toy, request)
