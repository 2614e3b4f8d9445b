"""Whether the caches of a batch fit into memory, before anything is allocated."""

import itertools
from collections.abc import Iterable, Sequence

import mlx.core as mx
import psutil

from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes

SHARE = 0.8
"""Of the free memory that slabs may take: what a step computes needs some, too."""


def slot_bytes(loaded: LoadedModel, seq_len: int) -> int:
    """Bytes of the keys and values of one slot, or block, of `seq_len` tokens.

    They have the type of the weights that are not packed.
    """
    config = loaded.config
    number = max(weight.dtype.size for weight in loaded.weights.values() if isinstance(weight, mx.array))
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * seq_len * number


def check_slots_fit(loaded: LoadedModel, slots: int, seq_len: int) -> None:
    """Raises ValueError if so many slots of `seq_len` tokens need more memory than is free; it says how many would fit."""
    _check_fit(loaded, slots, seq_len, "slots", "shorten the prompts or the answers")


def check_paged(loaded: LoadedModel, lists: Iterable[Sequence[WorkItem]], slots: Sequence[int], sizes: PagedSizes) -> None:
    """Raises ValueError if a paged engine of these sizes could not serve one of the lists, or its blocks do not fit."""
    sizes.check()
    for items, count in itertools.product(lists, slots):
        _check_fit(loaded, sizes.blocks(count, items), sizes.block_size, "blocks", "give a smaller block_size")


def _check_fit(loaded: LoadedModel, count: int, tokens: int, kind: str, last_resort: str) -> None:
    each, free = slot_bytes(loaded, tokens), int(SHARE * psutil.virtual_memory().available)
    if count * each <= free:
        return
    most = free // each
    remedy = f"at most {most} would fit" if most else f"not even one would fit: {last_resort}"
    raise ValueError(
        f"{count} {kind} of {tokens} tokens need {count * each / 2**30:.1f} GiB for keys and values, and about "
        f"{free / 2**30:.1f} GiB are free for them: {remedy}"
    )
