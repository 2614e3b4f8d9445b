"""Where the time of a paged step goes: products with weights, writes, gathering blocks, attention, and everything else.

As in `step_profile`, the parts are computed again by themselves, with the sizes that they have in the step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.paged_steps import BLOCK_SIZE, PagedSteps
from tiny_llm_kit.bench.step_profile import LENGTH, REPEATS, ROWS, products, shortest
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.workloads.paged import choose_paged_attention

STEPS = {"8 rows decode": (0, 0), "and 32 prompt tokens after 32": (32, 32), "and 32 after 1968": (32, 1968)}
"""The steps that are looked at: tokens of the piece of a prompt that is read alongside the decodes, and tokens before it."""

COLUMNS = ["part", *(column for step in STEPS for column in (step, "share"))]
PARTS = ("products with weights", "writes to the pools", "gathering blocks", "attention", "everything else", "the step")


def rows(steps: Sequence[Mapping[str, float]]) -> list[list[str]]:
    """A row for each of the `PARTS`, and in it two cells for each of the steps."""
    return [
        [part, *(cell for step in steps for cell in (duration(step[part]), f"{step[part] / step[PARTS[-1]]:.0%}"))]
        for part in PARTS
    ]


def step_parts(
    answer: ModuleType,
    model: Any,
    batch_rows: int = ROWS,
    length: int = LENGTH,
    prompt_tokens: int = 0,
    tokens_before: int = 0,
    kernels: str | None = None,
) -> dict[str, float]:
    """Seconds of each of the `PARTS`, the last of which is the whole step; the shortest of `REPEATS`."""
    paged_attention = choose_paged_attention(answer, kernels)
    steps = PagedSteps(answer, model, batch_rows, length, REPEATS + 2, prompt_tokens, tokens_before, paged_attention)
    whole = shortest(steps.build)
    caches = steps.runner.caches
    batch = caches[0].batch
    tables = [group.table for group in batch.groups]
    parts = (
        shortest(lambda: list(products(model, batch.tokens.size, batch.keep.size))),
        _writes(model, caches, batch.tokens.size),
        0.0 if paged_attention else shortest(lambda: [cache.fetch(table) for cache in caches for table in tables]),
        shortest(lambda: list(_attention(model, batch, caches[0], paged_attention))),
    )
    return dict(zip(PARTS, (*parts, whole - sum(parts), whole), strict=True))


def _writes(model: Any, caches: Sequence[Any], tokens: int) -> float:
    config = model.config
    k, v = (mx.ones((1, config.num_kv_heads, tokens, config.head_dim)) for _ in "kv")

    def write() -> list[Any]:
        for cache in caches:
            cache.write(k, v)
        return [cache.pools for cache in caches]

    return shortest(write)


def _attention(model: Any, batch: Any, cache: Any, paged_attention: Callable[..., mx.array] | None) -> Iterator[mx.array]:
    config = model.config
    scale = config.head_dim**-0.5
    for group in batch.groups:
        q = mx.ones((group.rows, config.num_heads, group.queries, config.head_dim))
        shape = (group.rows, config.num_kv_heads, group.table.shape[1] * BLOCK_SIZE, config.head_dim)
        keys, values = mx.ones(shape), mx.ones(shape)
        pools = [pool.reshape(config.num_kv_heads, -1, BLOCK_SIZE, config.head_dim) for pool in cache.pools]
        mx.eval(q, keys, values, pools)
        for block in model.blocks:
            if paged_attention is None:
                yield block.attention.attention(q, keys, values, scale, group.mask, None)
            else:
                yield paged_attention(q, *pools, group.table, group.lengths, scale)
