"""Whether the caches of a batch fit into memory, before anything is allocated."""

import itertools
from collections.abc import Iterable, Sequence

import mlx.core as mx
import psutil

from tiny_llm_kit.models.load import LoadedModel
from tiny_llm_kit.workloads.items import WorkItem
from tiny_llm_kit.workloads.paged import PagedSizes

KV_GROUP = 32
"""Numbers of a head that share a scale and a bias, where keys and values are packed."""
SHARE = 0.8
"""The share of free memory that slabs may take: what a step computes needs some, too."""


def slot_bytes(loaded: LoadedModel, seq_len: int, kv_bits: int | None = None) -> int:
    """Bytes of the keys and values of one slot, or block, of `seq_len` tokens.

    They have the type of the weights that are not packed, and so have the scales and biases of those in `kv_bits` bits.
    """
    config = loaded.config
    number = max(weight.dtype.size for weight in loaded.weights.values() if isinstance(weight, mx.array))
    group = KV_GROUP * number if kv_bits is None else KV_GROUP * kv_bits // 8 + 2 * number
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * seq_len * group // KV_GROUP


def check_slots_fit(loaded: LoadedModel, slots: int, seq_len: int) -> None:
    """Raises ValueError if this many slots of `seq_len` tokens need more memory than is free; it says how many would fit."""
    _check_fit(loaded, slots, seq_len, "slots", "shorten the prompts or the answers")


def check_paged(loaded: LoadedModel, lists: Iterable[Sequence[WorkItem]], slots: Sequence[int], sizes: PagedSizes) -> None:
    """Raises ValueError if a paged engine of these sizes could not serve one of the lists, or its blocks do not fit."""
    sizes.check()
    if sizes.kv_bits is not None and loaded.config.head_dim % KV_GROUP:
        raise ValueError(
            f"kv_bits is {sizes.kv_bits}, and heads of {loaded.config.head_dim} numbers can't be cut into groups of {KV_GROUP}:"
            " leave it out for this model"
        )
    for items, count in itertools.product(lists, slots):
        _check_fit(loaded, sizes.blocks(count, items), sizes.block_size, "blocks", "give a smaller block_size", sizes.kv_bits)


def _check_fit(loaded: LoadedModel, count: int, tokens: int, kind: str, last_resort: str, kv_bits: int | None = None) -> None:
    each, free = slot_bytes(loaded, tokens, kv_bits), int(SHARE * psutil.virtual_memory().available)
    if count * each <= free:
        return
    most = free // each
    remedy = f"at most {most} would fit" if most else f"not even one would fit: {last_resort}"
    raise ValueError(
        f"{count} {kind} of {tokens} tokens need {count * each / 2**30:.1f} GiB for keys and values, and about "
        f"{free / 2**30:.1f} GiB are free for them: {remedy}"
    )
