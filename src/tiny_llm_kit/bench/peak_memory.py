"""Whether the paged engine's memory is its pool and the model's weights, and not a copy of them."""

from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.overhead import arrays_in
from tiny_llm_kit.bench.report import Target
from tiny_llm_kit.workloads.lists import plain_prompt
from tiny_llm_kit.workloads.paged import choose_paged_attention

ROWS = 8
PROMPT = 128
STEPS = 40
BLOCKS = 768
"""With SmolLM2-135M in float32 about as much memory as its weights, so a copy of the pool could not go unnoticed."""


def peak_over_pool_and_weights(answer: ModuleType, model: Any, num_blocks: int = BLOCKS, kernels: str | None = None) -> float:
    """Peak memory over `STEPS` steps, prompts included, as a multiple of the pools and weights.

    What was there before and is not a weight of this model, such as another model's, does not count.
    """
    weights = sum(array.nbytes for array in arrays_in(model))
    mx.clear_cache()
    before = mx.get_active_memory()
    engine = answer.Engine(
        model,
        num_blocks=num_blocks,
        max_num_seqs=ROWS,
        max_num_batched_tokens=2 * PROMPT,
        paged_attention=choose_paged_attention(answer, kernels),
    )
    for row in range(ROWS):
        engine.submit(answer.PagedRequest(plain_prompt(PROMPT, row), STEPS))
    mx.reset_peak_memory()
    for _ in range(STEPS):
        engine.step()
    pools = sum(pool.nbytes for cache in engine.runner.caches for pool in cache.pools)
    peak = mx.get_peak_memory()
    return (peak - before + weights) / (pools + weights)


def target(ratio: float) -> Target:
    return Target(f"peak memory over {STEPS} steps / pool and weights", ratio, 1.1, False, "{:.2f}".format)
