"""Whether the caches of a batch fit into memory, before anything is allocated."""

import mlx.core as mx
import psutil

from tiny_llm_kit.models.load import LoadedModel

SHARE = 0.8
"""Of the free memory that slabs may take: what a step computes needs some, too."""


def slot_bytes(loaded: LoadedModel, seq_len: int) -> int:
    """Bytes of the keys and values of one slot of `seq_len` tokens, which have the type of the weights that are not packed."""
    config = loaded.config
    number = max(weight.dtype.size for weight in loaded.weights.values() if isinstance(weight, mx.array))
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * seq_len * number


def check_slots_fit(loaded: LoadedModel, slots: int, seq_len: int) -> None:
    """Raises ValueError if so many slots of `seq_len` tokens need more memory than is free; it says how many would fit."""
    per_slot, free = slot_bytes(loaded, seq_len), int(SHARE * psutil.virtual_memory().available)
    if slots * per_slot <= free:
        return
    most = free // per_slot
    remedy = f"at most {most} would fit" if most else "not even one would fit: shorten the prompts or the answers"
    raise ValueError(
        f"{slots} slots of {seq_len} tokens need {slots * per_slot / 2**30:.1f} GiB for keys and values, and about "
        f"{free / 2**30:.1f} GiB are free for them: {remedy}"
    )
