"""Chunked prefill: the prompt goes through the model in pieces of bounded size.

A chunk bounds both the memory of a step (activations and attention scores grow with its length) and the time for which it keeps
the machine from other requests (Sarathi-Serve, arXiv 2403.02310).
"""

from collections.abc import Iterator, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .kv_cache import KvCache
from .model import Model


@task(week=2, day=5, number=1)
def chunk_bounds(length: int, step: int) -> Iterator[tuple[int, int]]:
    """Cut 0 … length into pieces (start, end) of `step`; the last may be shorter, none is empty.

    Raises:
        ValueError: if `step` is less than 1.
    """
    if step < 1:
        raise ValueError(f"prefill step is {step}: it must be at least 1 token")
    for start in range(0, length, step):
        yield start, min(start + step, length)


@task(week=2, day=5, number=2)
def prefill_chunk(model: Model, prompt: Sequence[int], start: int, end: int, cache: Sequence[KvCache]) -> mx.array | None:
    """Launch the computation of the keys and values of `prompt[start:end]`; those of the tokens before it are in `cache`.

    It does not wait. Only the chunk's keys and values are asked of the device, unless this is the end of the prompt.

    Returns:
        Logits `(V,)` for the token after the prompt if `end` is the prompt's end, else None.
    """
    last = end == len(prompt)
    tokens = mx.array([prompt[start:end]])
    logits = model(tokens, start, cache, logits_to_keep=1 if last else 0)
    if last:
        return logits[0, -1]
    mx.async_eval([[layer.keys, layer.values] for layer in cache])
    return None


@task(week=2, day=5, number=3)
def prefill(model: Model, prompt: Sequence[int], cache: Sequence[KvCache], step: int = 128) -> mx.array:
    """Put a whole prompt into an empty `cache`, `step` tokens at a time.

    Returns:
        Logits `(V,)` for the first token of the answer: the same as from one pass over the whole prompt.
    Raises:
        ValueError: if the prompt is empty or `step` is less than 1.
    """
    logits = None
    for start, end in chunk_bounds(len(prompt), step):
        logits = prefill_chunk(model, prompt, start, end, cache)
    if logits is None:
        raise ValueError("the prompt is empty: a model needs at least one token to continue")
    return logits
