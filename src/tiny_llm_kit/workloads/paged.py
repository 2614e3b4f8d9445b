"""How a paged engine is built for a list of items: with the memory that slots would take, unless it is told otherwise."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any

from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len

SPECULATION: dict[str, dict[str, Any]] = {"ngram": {}, "ngram-4": {"adaptive": None, "num_speculative_tokens": 4}}
"""Ways to speculate, and what `SpeculativeEngine` is told for each: as many drafts as are worth it, or always 4."""


@dataclass(frozen=True)
class PagedSizes:
    """The sizes of a paged engine, in the engine's own names.

    num_blocks: None for as many as hold the tokens that slots for the same work would hold.
    kv_bits: 8 or 4: keys and values are stored in this many bits. None: as they are.
    speculate: one of SPECULATION; None for an engine that does not.
    """

    block_size: int = 16
    num_blocks: int | None = None
    max_num_seqs: int = 64
    max_num_batched_tokens: int = 192
    kv_bits: int | None = None
    speculate: str | None = None

    def check(self) -> None:
        """ValueError if no step could have a token of each request that runs."""
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens is {self.max_num_batched_tokens}, less than max_num_seqs, {self.max_num_seqs}: give at"
                f" least {self.max_num_seqs}, for a token of each"
            )

    def of_schedule(self, num_blocks: int) -> dict[str, int]:
        """What a simulation takes: it knows blocks and budgets, but not what is in them."""
        return {
            "num_blocks": num_blocks,
            "block_size": self.block_size,
            "max_num_seqs": self.max_num_seqs,
            "max_num_batched_tokens": self.max_num_batched_tokens,
        }

    def blocks(self, slots: int, items: Sequence[WorkItem]) -> int:
        """The blocks of the pool; as many tokens as `slots` slots hold, each as long as the longest of the items.

        Raises:
            ValueError: if the pool could not hold the longest of them.
        """
        seq_len = needed_seq_len(items)
        least = -(-seq_len // self.block_size)
        if self.num_blocks is None:
            return max(least, slots * seq_len // self.block_size)
        if self.num_blocks < least:
            raise ValueError(
                f"num_blocks is {self.num_blocks}, and the longest request needs {least} blocks of {self.block_size} tokens"
                f" for its {seq_len}: give at least {least}"
            )
        return self.num_blocks


def paged_engine(
    answer: ModuleType,
    model: Any,
    items: Sequence[WorkItem],
    slots: int,
    sizes: PagedSizes,
    kernels: str | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> Any:
    """The paged engine of an answer package, for these items.

    slots: the pool has the memory of this many slots, unless `sizes` says otherwise.
    kernels: as `--kernels`; with "course", attention walks the block tables in a kernel of the answer's, unless `kv_bits` is
        given: what is packed has to be gathered and unpacked for the model's own attention.
    clock: seconds.
    """
    make = answer.Engine
    if sizes.speculate is not None:
        make = partial(answer.SpeculativeEngine, **SPECULATION[sizes.speculate])
    packed = {} if sizes.kv_bits is None else {"kv_bits": sizes.kv_bits}
    return make(
        model,
        num_blocks=sizes.blocks(slots, items),
        block_size=sizes.block_size,
        max_num_seqs=sizes.max_num_seqs,
        max_num_batched_tokens=sizes.max_num_batched_tokens,
        max_seq_len=needed_seq_len(items),
        paged_attention=None if packed else choose_paged_attention(answer, kernels),
        clock=clock,
        **packed,
    )


def choose_paged_attention(answer: ModuleType, kernels: str | None) -> Callable[..., Any] | None:
    """The answer's own kernel for attention over blocks, if its kernels were asked for; None gathers them for the model's."""
    return getattr(answer, "paged_attention", None) if kernels == "course" else None
