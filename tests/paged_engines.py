"""What the engine tests of week 3 day 4 share: small engines, small requests, and whether an engine is still whole."""

from typing import Any

from answer import answer
from day6_engines import find_eos
from support import CountingModel, ToyModel, assert_alone, finish_all, make_prompt


def engine(model: Any, **options: Any) -> Any:
    """32 blocks of 4 tokens; 4 requests and 12 tokens per step at most."""
    sizes = {"num_blocks": 32, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 12}
    return answer.Engine(model, **{**sizes, **options})


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request with a random prompt of `length` tokens."""
    return answer.PagedRequest(make_prompt(length, seed), max_tokens, **options)


def ask_with_eos(toy: ToyModel, length: int, position: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    """A request that ends by an EOS, which is token `position` of its answer (the first is 0) and none before."""
    seed, eos = find_eos(toy, length, position, max(position + 1, max_tokens), seed)
    return ask(length, max_tokens, seed, eos_token_ids=[eos], **options)


def serve(served: Any, *requests: Any) -> list[Any]:
    """Submit these and step to the end, with a look at the engine's integrity after each step; those that ended, in order."""
    __tracebackhide__ = True
    for request in requests:
        served.submit(request)
    ended = finish_all(served, after_step=served.check_integrity)
    assert_nothing_is_lost(served)
    return ended


def assert_nothing_is_lost(served: Any) -> None:
    """Without a request, every block is free or can be."""
    __tracebackhide__ = True
    pool, cache = served.pool, served.prefix_cache
    lost = pool.num_blocks - pool.num_free - cache.evictable
    assert not lost, (
        f"no request waits or runs, and {lost} of {pool.num_blocks} blocks are neither free nor evictable: what holds them?"
    )


def assert_can_still_serve(served: Any, toy: ToyModel) -> None:
    """A request that needs all the blocks, and then as many small ones as may run, each as if alone."""
    __tracebackhide__ = True
    places = min(served.pool.num_blocks * served.pool.block_size, served.max_seq_len)
    large = ask(places - 6, 6, seed=40)
    serve(served, large)
    assert_alone(toy, large)
    small = [ask(3, 3, seed) for seed in range(41, 41 + served.scheduler.max_num_seqs)]
    serve(served, *small)
    assert_alone(toy, *small)


def tokens_per_step(model: CountingModel, served: Any) -> list[int]:
    """How many tokens each step gives the model, to the end; AssertionError for a step that calls it twice."""
    __tracebackhide__ = True
    given: list[int] = []

    def look() -> None:
        calls, model.calls[:] = list(model.calls), []
        assert len(calls) <= 1, f"a step called the model {len(calls)} times: decodes and chunks share one call"
        given.append(sum(rows * length for rows, length in calls))
        served.check_integrity()

    finish_all(served, after_step=look)
    return given
