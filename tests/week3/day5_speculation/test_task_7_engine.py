"""Week 3 Day 5, task 7: an engine whose keys and values are in 8 or 4 bits."""

from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from answer import answer
from devices import on_the_cpu as on_the_cpu
from oracles import to_numpy
from paged_engines import assert_nothing_is_lost, serve
from support import finish_all, make_prompt, refuses, step_until
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config
from week3.day5_speculation.quantized_checks import assert_said, rounded_logits, store_once, wide_model

each_bits = pytest.mark.parametrize("bits", [8, 4])


def engine(model: Any, bits: int | None, **options: Any) -> Any:
    """48 blocks of 4 tokens; 4 requests and 12 tokens per step at most."""
    sizes = {"num_blocks": 48, "block_size": 4, "max_num_seqs": 4, "max_num_batched_tokens": 12}
    return answer.Engine(model, kv_bits=bits, **{**sizes, **options})


def ask(length: int, max_tokens: int, seed: int = 0, **options: Any) -> Any:
    return answer.PagedRequest(make_prompt(length, seed), max_tokens, **options)


@each_bits
@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_task_7_each_is_told_what_it_is_told_alone(bits: int, architecture: str) -> None:
    store_once()
    model = wide_model(architecture)
    requests = [ask(length, 8, seed=length) for length in (3, 17, 9, 6, 21)]
    serve(engine(model, bits), *requests)
    assert_said(model, bits, *requests)


@each_bits
def test_task_7_bits_are_really_left_out(bits: int) -> None:
    store_once()
    model, prompt = wide_model(), make_prompt(30, 1)
    plain = to_numpy(rounded_logits(model, prompt, None)[-1])
    request = answer.PagedRequest(prompt, 1)
    served = answer.PagedRunner(model, 12, 4, kv_bits=bits)
    request.hold(list(range(11, 2, -1)))
    logits: list[mx.array] = []

    class Watched:
        config = model.config

        def __call__(self, *args: Any, **kwargs: Any) -> mx.array:
            logits.append(model(*args, **kwargs))
            return logits[-1]

    served.model = Watched()
    served.run(answer.MixedPlan([], [answer.Chunk(request, 0, 30)], []))
    off = float(np.abs(to_numpy(logits[0][0, -1]) - plain).max() / plain.std())
    low, high = {8: (1e-4, 0.15), 4: (0.02, 2.0)}[bits]
    assert low < off, f"kv_bits={bits}: the logits are those of plain keys and values (off by {off:.1g} of their spread)"
    assert off < high, f"kv_bits={bits}: the logits are off by {off:.2g} of their spread, more than rounding can do"


@each_bits
def test_task_7_preempted_requests_go_on_as_if_they_had_not_been(bits: int) -> None:
    store_once()
    model = wide_model()
    served = engine(model, bits, num_blocks=9, prefix_caching=False)
    requests = [ask(length, 12, seed=length) for length in (7, 10, 5)]
    serve(served, *requests)
    assert served.metrics.num_preemptions > 0, "nine blocks are too few for all three"
    assert_said(model, bits, *requests)


@each_bits
def test_task_7_equal_beginnings_are_shared_as_they_are_stored(bits: int) -> None:
    store_once()
    model, common = wide_model(), make_prompt(16, 5)
    served = engine(model, bits)
    first = answer.PagedRequest([*common, 1, 2, 3], 6)
    serve(served, first)
    others = [answer.PagedRequest(common, 6), answer.PagedRequest([*common, 7], 6), answer.PagedRequest([*common, 1, 2, 3], 6)]
    serve(served, *others)
    assert served.metrics.prefix_cache_hits >= 3 * 12, "three blocks of the beginning and more were found three times"
    assert_said(model, bits, first, *others)


@each_bits
def test_task_7_who_leaves_leaves_nothing_behind(bits: int) -> None:
    store_once()
    model = wide_model()
    served = engine(model, bits, num_blocks=14)
    goes, stays = ask(9, 20, seed=1), ask(6, 10, seed=2)
    served.submit(goes)
    served.submit(stays)
    step_until(served, lambda: len(goes.generated_tokens) >= 3, what="three tokens of the first request")
    served.cancel(goes)
    late = ask(11, 8, seed=3)
    served.submit(late)
    finish_all(served, after_step=served.check_integrity)
    assert_nothing_is_lost(served)
    assert_said(model, bits, stays, late)


@each_bits
def test_task_7_a_sick_request_ends_alone_and_leaves_no_nan(bits: int) -> None:
    store_once()
    config = tiny_config("qwen3")
    weights = random_weights(config)
    embedding = np.array(weights["model.embed_tokens.weight"])
    embedding[200] = np.nan
    sick = answer.Model(config, {**weights, "model.embed_tokens.weight": mx.array(embedding)})
    served = engine(sick, bits, num_blocks=8, prefix_caching=False)
    poisoned, beside = answer.PagedRequest([5, 200, 9, 9, 9, 9, 9], 4), answer.PagedRequest([8, 7, 6], 9)
    serve(served, poisoned, beside)
    assert isinstance(poisoned.error, FloatingPointError), (
        f"keys and values of this request are NaN, so it ends with a FloatingPointError, not with {poisoned.error!r}"
    )
    after = answer.PagedRequest([1, 2, 3, 4, 5], 9)
    serve(served, after)
    assert_said(wide_model("qwen3"), bits, beside, after)


@each_bits
def test_task_7_the_pools_of_an_engine_are_small(bits: int) -> None:
    store_once()
    model = wide_model()
    served, plain = engine(model, bits), engine(model, None)
    for one in (served, plain):
        serve(one, ask(5, 2))
    small, large = (sum(pool.nbytes for cache in one.runner.caches for pool in cache.pools) for one in (served, plain))
    want = (bits + 2) / 32
    assert small == want * large, (
        f"{bits} bits and 2 for scale and bias in place of 32: {want:.0%} of the bytes, not {small / large:.0%}"
    )


def test_task_7_other_bits_are_refused_by_the_engine() -> None:
    store_once()
    for bits in (0, 3, 16):
        with refuses(ValueError, f"kv_bits={bits}: only 4 and 8 can be stored", named=f"{bits}"):
            engine(wide_model(), bits)
    config = tiny_config(head_dim=16)
    with refuses(ValueError, "heads of 16 numbers can't be cut into groups of 32", named="16"):
        engine(answer.Model(config, random_weights(config)), 8)
    with refuses(ValueError, "a kernel that reads plain pools, and kv_bits", named="paged_attention"):
        engine(wide_model(), 8, paged_attention=lambda *args: args[0])


@pytest.mark.usefixtures("on_the_cpu")
@each_bits
def test_task_7_steps_that_are_launched_ahead_copy_no_pool(bits: int) -> None:
    """Eight layers, so that a layer has attended in one step long before it writes in the next, as in every real model.

    The pools are large, so that what a step gathers and unpacks is little compared with one of them.
    """
    store_once()
    model = wide_model(num_layers=8)
    mx.eval(model(mx.array([make_prompt(5)])))  # all weights are where they stay
    mx.synchronize()
    before = mx.get_active_memory()
    served = engine(model, bits, num_blocks=8000, max_num_batched_tokens=200)
    for seed in range(4):
        served.submit(ask(40, 40, seed))
    for _ in range(3):
        served.step()
    mx.synchronize()
    mx.reset_peak_memory()  # making the pools may take more
    for _ in range(30):
        served.step()
    mx.synchronize()
    pools = [pool.nbytes for cache in served.runner.caches for pool in cache.pools]
    more = (mx.get_peak_memory() - before - sum(pools)) / (sum(pools) / 16)
    assert more < 0.6, (
        f"in 30 steps, each launched before the last was read, memory held {more:.1f} pools more than all pools: one was"
        " copied. Write in place, and keep no older version of a pool"
    )
