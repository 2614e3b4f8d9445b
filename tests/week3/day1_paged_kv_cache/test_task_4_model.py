"""Week 3 Day 1, task 4: the model over paged caches gives each sequence the logits it has alone."""

from functools import cache
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from answer import answer
from devices import on_the_cpu as on_the_cpu
from oracles import LOGITS, assert_close, mlx_lm_model
from ragged import Paged, Span, attend_once, make_batch
from tiny_llm_kit.models.tiny_random import random_weights, tiny_config

each_architecture = pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])


def models(architecture: str) -> tuple[Any, Any]:
    """The answer's model, and mlx-lm's with the same weights."""
    attend_once()  # a failure within the model names an earlier day
    return made_models(architecture)


@cache
def made_models(architecture: str) -> tuple[Any, Any]:
    config = tiny_config(architecture)
    weights = random_weights(config)
    return answer.Model(config, weights), mlx_lm_model(config, weights)


def prompt(length: int, seed: int) -> list[int]:
    return np.random.default_rng(seed).integers(32, 127, length).tolist()


def assert_alone(oracle: Any, tokens: list[int], logits: mx.array, hint: str) -> None:
    assert_close(logits, oracle(mx.array([tokens]))[0, -1], f"{hint}: the logits are those that the sequence has alone", LOGITS)


@each_architecture
@pytest.mark.parametrize("seed", [0, 1])
def test_task_4_any_permutation_of_the_blocks_gives_equal_logits(architecture: str, seed: int) -> None:
    model, oracle = models(architecture)
    paged = Paged(model, num_blocks=24, block_size=4)
    blocks = np.random.default_rng(seed).permutation(24).tolist() if seed else list(range(24))
    sequences = {"a": prompt(10, 1), "b": prompt(5, 2), "c": prompt(17, 3), "d": prompt(8, 4)}
    for name, tokens in sequences.items():
        needed = -(-len(tokens) // 4)
        paged.add(name, tokens, [blocks.pop() for _ in range(needed)])
    paged.step({"a": 9, "b": 3, "d": 7})
    paged.step({"b": 1, "c": 4})
    logits = paged.step({"a": 1, "b": 1, "d": 1, "c": 13})
    for name, tokens in sequences.items():
        where = f"{architecture}, sequence {name} in blocks {paged.sequences[name].table}"
        assert_alone(oracle, tokens, logits[name], where)


@each_architecture
def test_task_4_what_earlier_owners_left_changes_no_logits(architecture: str) -> None:
    model, oracle = models(architecture)
    paged, config = Paged(model, num_blocks=12, block_size=4), model.config
    for left, blocks in ((mx.nan, range(6)), (1e30, range(6, 12))):
        poison = mx.full((1, config.num_kv_heads, 24, config.head_dim), left)
        for layer in paged.caches:
            layer.batch = make_batch([Span(0, 24, blocks)], 4)
            layer.write(poison, poison)
    a, b = prompt(6, 5), prompt(11, 6)
    paged.add("a", a, [2, 7, 4])
    paged.add("b", b, [8, 0, 3, 11])
    paged.step({"a": 5, "b": 4})
    logits = paged.step({"a": 1, "b": 7})
    assert_alone(oracle, a, logits["a"], "NaN and huge numbers were in all blocks, sequence a")
    assert_alone(oracle, b, logits["b"], "NaN and huge numbers were in all blocks, sequence b")


@settings(max_examples=12)
@given(st.data())
def test_task_4_blocks_come_and_go(data: st.DataObject) -> None:
    """Sequences come and go over a small pool, so that blocks are used again at once; each is told what it is told alone."""
    model, oracle = models(data.draw(st.sampled_from(["llama", "qwen2", "qwen3"]), label="architecture"))
    num_blocks = data.draw(st.integers(5, 12), label="num_blocks")
    pool, paged = answer.BlockPool(num_blocks, 4), Paged(model, num_blocks, 4)
    for step in range(data.draw(st.integers(3, 8), label="steps")):
        for name in [name for name, stored in paged.sequences.items() if stored.done == len(stored.tokens)]:
            pool.release(paged.sequences.pop(name).table)
        length = data.draw(st.integers(1, 18), label="a new sequence")
        table = pool.allocate(-(-length // 4))
        if table is not None:
            paged.add(f"{step}", prompt(length, step), table)
        pool.check_integrity(stored.table for stored in paged.sequences.values())
        left = {name: len(stored.tokens) - stored.done for name, stored in paged.sequences.items()}
        logits = paged.step({name: data.draw(st.integers(1, count), label=f"tokens of {name}") for name, count in left.items()})
        for name, row in logits.items():
            stored = paged.sequences[name]
            assert_alone(oracle, stored.tokens[: stored.done], row, f"step {step}, sequence {name} in blocks {stored.table}")


def test_task_4_greedy_answers_equal_those_alone() -> None:
    model, oracle = models("llama")
    paged, answers = Paged(model, num_blocks=32, block_size=4), {}
    for i, length in enumerate((3, 8, 13)):
        paged.add(f"{i}", prompt(length, 10 + i), list(range(31 - i, -1, -3))[:8])
    logits = paged.step({f"{i}": length for i, length in enumerate((3, 8, 13))})
    for _ in range(10):
        for name, row in logits.items():
            paged.sequences[name].tokens.append(int(mx.argmax(row).item()))
        logits = paged.step(dict.fromkeys(logits, 1))
    for name, stored in paged.sequences.items():
        start = (3, 8, 13)[int(name)]
        answers[name] = stored.tokens[start:]
        alone = oracle(mx.array([stored.tokens]))[0, start - 1 : -1]
        want = mx.argmax(alone, axis=-1).tolist()
        assert answers[name] == want, f"the 10 tokens after the prompt of {start}, decoded together with two others"


@pytest.mark.usefixtures("on_the_cpu")
def test_task_4_steps_that_are_launched_ahead_copy_no_pool() -> None:
    """Eight layers, so that a layer has attended in one step long before it writes in the next, as in every real model."""
    attend_once()
    config = tiny_config(num_layers=8)
    model = answer.Model(config, random_weights(config))
    mx.eval(model(mx.array([prompt(5, 0)])))  # all weights are where they stay
    mx.synchronize()
    before = mx.get_active_memory()
    paged = Paged(model, num_blocks=1000, block_size=16)
    for i in range(4):
        paged.add(f"{i}", prompt(60, i), range(4 * i, 4 * i + 4))
    mx.eval(list(paged.step({f"{i}": 20 for i in range(4)}).values()))
    mx.synchronize()
    mx.reset_peak_memory()  # making the pools may take more
    launched = None
    for _ in range(40):
        logits = list(paged.step({f"{i}": 1 for i in range(4)}).values())
        mx.async_eval(logits)
        if launched:
            mx.eval(launched)
        launched = logits
    mx.synchronize()
    pool = 1000 * 16 * config.num_kv_heads * config.head_dim * 4
    more = (mx.get_peak_memory() - before) / pool - 2 * config.num_layers
    assert more < 0.5, (
        f"in 40 steps, each launched before the last was read, memory held {more:.1f} pools more than a pool of keys and one of"
        " values per layer: one was copied. Write in place, and keep no older version of a pool"
    )
