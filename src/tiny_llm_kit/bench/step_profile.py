"""Where the time of a decode step goes: products with weights, attention over the caches, and everything else.

The parts are computed again by themselves, with the sizes that they have in the step. What is left of the whole step is the
rest: norms, rotations, activations, writes to the caches, sampling, and building the graph.
"""

import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.lists import plain_prompt

ROWS = 8
LENGTH = 160
"""Tokens that each row holds: about the middle of a request of `heavy-tail`."""
REPEATS = 10
COLUMNS = ["part", "time", "share"]


def step_profile(answer: ModuleType, model: Any, rows: int = ROWS, length: int = LENGTH) -> list[list[str]]:
    """A row for each part of a decode step of an answer package's model; times are the shortest of `REPEATS`."""
    whole = decode_seconds(answer, model, rows, length)
    weights = shortest(lambda: list(products(model, rows)))
    keys, values = _stores(model, rows, length), _stores(model, rows, length)
    attention = shortest(lambda: list(_attention(model, keys, values, length)))
    parts = {
        "products with weights": weights,
        "attention": attention,
        "everything else": whole - weights - attention,
        f"a step of {rows} rows of {length} tokens": whole,
    }
    return [[name, duration(seconds), f"{seconds / whole:.0%}"] for name, seconds in parts.items()]


def decode_seconds(answer: ModuleType, model: Any, rows: int, length: int = LENGTH) -> float:
    """The time of a decode step of this many rows, which hold `length` tokens each (a few more at its end)."""
    runner = answer.ModelRunner(model, rows, length + REPEATS + 2)
    requests = [answer.Request(plain_prompt(length, row), REPEATS + 2) for row in range(rows)]
    for slot, request in enumerate(requests):
        runner.join(request, slot, runner.prefill(request, 0, length))
    return shortest(lambda: runner.decode(requests).tokens)


def shortest(compute: Callable[[], Any]) -> float:
    """Seconds to compute what is returned, at best of `REPEATS`."""
    mx.eval(compute())
    times = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        mx.eval(compute())
        times.append(time.perf_counter() - started)
    return min(times)


def products(model: Any, tokens: int, scored: int | None = None) -> Iterator[Any]:
    """The products of a step with this many tokens, of which `scored` (all, if None) get logits."""
    config = model.config
    x = mx.ones((1, tokens, config.hidden_size))
    for block in model.blocks:
        yield block.attention.qkv(x)
        yield block.attention.out(mx.ones((1, tokens, config.num_heads * config.head_dim)))
        yield block.mlp.gate_up(x)
        yield block.mlp.down(mx.ones((1, tokens, config.intermediate_size)))
    yield model.head(x[:, :scored])


def _stores(model: Any, rows: int, length: int) -> list[mx.array]:
    """Keys (or values) of each layer, with room after the tokens, as in its cache."""
    config = model.config
    return [mx.ones((rows, config.num_kv_heads, 2 * length, config.head_dim)) for _ in model.blocks]


def _attention(model: Any, keys: list[mx.array], values: list[mx.array], length: int) -> Iterator[mx.array]:
    config, rows = model.config, keys[0].shape[0]
    q, mask = mx.ones((rows, config.num_heads, 1, config.head_dim)), mx.zeros((rows, 1, 1, length))
    lengths = mx.full((rows,), length)
    for block, k, v in zip(model.blocks, keys, values, strict=True):
        k, v = k[:, :, :length], v[:, :, :length]
        yield block.attention.attention(q, k, v, config.head_dim**-0.5, mask, lengths)
