"""Where the time of a paged step goes: products with weights, writes to the pools, gathering blocks, attention, everything else.

As in `step_profile`, the parts are computed again by themselves, with the sizes that they have in the step.
"""

from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.paged_steps import BLOCK_SIZE, PagedSteps
from tiny_llm_kit.bench.step_profile import LENGTH, REPEATS, ROWS, products, shortest
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.paged import choose_paged_attention

PROMPT_TOKENS = 32
"""Of the piece of a prompt in a mixed step; it comes after as many."""

COLUMNS = ["part", "8 rows decode", "share", "and 32 prompt tokens", "share"]
PARTS = ("products with weights", "writes to the pools", "gathering blocks", "attention", "everything else", "the step")


def paged_profile(answer: ModuleType, model: Any, kernels: str | None = None) -> list[list[str]]:
    """A row for each part of a step, times being the shortest of `REPEATS`: of one that decodes, and of a mixed one."""
    decode, mixed = (step_parts(answer, model, prompt_tokens=tokens, kernels=kernels) for tokens in (0, PROMPT_TOKENS))
    return [
        [part, *(cell for parts in (decode, mixed) for cell in (duration(parts[part]), f"{parts[part] / parts[PARTS[-1]]:.0%}"))]
        for part in PARTS
    ]


def step_parts(
    answer: ModuleType,
    model: Any,
    rows: int = ROWS,
    length: int = LENGTH,
    prompt_tokens: int = 0,
    kernels: str | None = None,
) -> dict[str, float]:
    """Seconds of each of the `PARTS`, the last of which is the whole step."""
    paged_attention = choose_paged_attention(answer, kernels)
    steps = PagedSteps(answer, model, rows, length, REPEATS + 2, prompt_tokens, paged_attention)
    whole = shortest(steps.build)
    cache, batch = steps.runner.caches[0], steps.runner.caches[0].batch
    parts = {
        PARTS[0]: shortest(lambda: list(products(model, batch.tokens.size, batch.keep.size))),
        PARTS[1]: _writes(model, batch, cache.pools),
        PARTS[2]: 0.0 if paged_attention else shortest(lambda: [c.fetch(g.table) for c in steps.runner.caches for g in batch.groups]),
        PARTS[3]: shortest(lambda: list(_attention(model, batch, cache, paged_attention))),
    }
    return {**parts, PARTS[4]: whole - sum(parts.values()), PARTS[5]: whole}


def _writes(model: Any, batch: Any, pools: list[mx.array]) -> float:
    """In place, as the cache writes: the pools belong to nobody else."""
    own = [mx.zeros_like(pool) for _ in model.blocks for pool in pools]
    new = mx.ones((pools[0].shape[0], batch.slots.size, pools[0].shape[2]))
    mx.eval(own, new)

    def write() -> list[mx.array]:
        for pool in own:
            pool[:, batch.slots] = new
        return own

    return shortest(write)


def _attention(
    model: Any, batch: Any, cache: Any, paged_attention: Callable[..., mx.array] | None
) -> Iterator[mx.array]:
    config = model.config
    scale = config.head_dim**-0.5
    for group in batch.groups:
        q = mx.ones((group.rows, config.num_heads, group.queries, config.head_dim))
        shape = (group.rows, config.num_kv_heads, group.table.shape[1] * BLOCK_SIZE, config.head_dim)
        keys, values = mx.ones(shape), mx.ones(shape)
        pools = [pool.reshape(pool.shape[0], -1, BLOCK_SIZE, config.head_dim) for pool in cache.pools]
        mx.eval(q, keys, values, pools)
        for block in model.blocks:
            if paged_attention is None:
                yield block.attention.attention(q, keys, values, scale, group.mask, None)
            else:
                yield paged_attention(q, *pools, group.table, group.lengths, scale)
