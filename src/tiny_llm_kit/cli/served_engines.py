"""The engines of `batch-main`: how each is made, and what is shown of the memory that its requests share."""

from collections import Counter
from collections.abc import Sequence
from types import ModuleType
from typing import Any, Protocol

from metal_anywhere.backend import backend
from tiny_llm_kit.bench.drafts import describe_drafts, drafts_as_json
from tiny_llm_kit.timeline import Recorder
from tiny_llm_kit.workloads.items import WorkItem, needed_seq_len
from tiny_llm_kit.workloads.paged import PagedSizes, paged_engine


class ServedEngine(Protocol):
    """An engine, and words for its memory.

    name: of its schedule, where schedules are compared. column: what a running request has of the memory.
    rows: lines of the live picture that are shown even if no request is in them.
    """

    name: str
    column: str
    rows: int
    engine: Any

    def place(self, request: Any) -> tuple[int, str]:
        """The sort key of the running requests, and what is in the column."""

    def memory(self) -> str:
        """How the memory is used now, in a line; empty if the rows say everything."""

    def summary(self, crowded: float | None) -> str:
        """The same for the whole run; `crowded` is the share of slots in use while requests waited, None if none did."""

    def as_json(self) -> dict[str, Any]:
        """Settings and figures that other engines do not have."""

    def recorder(self, names: Sequence[str]) -> Recorder:
        """What records a timeline of the engine; `names` of the requests, in the order in which they come."""


class SlotEngine:
    """The engine of week 2: a request has a slot."""

    name = "continuous"
    column = "slot"

    def __init__(
        self, answer: ModuleType, model: Any, items: Sequence[WorkItem], slots: int, prefill_step: int, strategy: str
    ) -> None:
        self.rows = slots
        self.strategy = strategy
        self.engine = answer.ContinuousBatchScheduler(
            model,
            slots,
            max_seq_len=needed_seq_len(items),
            prefill_step=prefill_step,
            strategy=answer.STRATEGIES[strategy](),
        )

    def place(self, request: Any) -> tuple[int, str]:
        slot = self.engine.slots.slot_of.get(request.request_id)
        return (self.rows, "…") if slot is None else (slot, str(slot))

    def memory(self) -> str:
        return ""

    def summary(self, crowded: float | None) -> str:
        waiting = "and no request waited" if crowded is None else f"while requests waited {crowded:.1%}"
        return f"slots in use {self.engine.metrics.slot_utilization:.1%}, {waiting}"

    def as_json(self) -> dict[str, Any]:
        return {"strategy": self.strategy, "slot_utilization": self.engine.metrics.slot_utilization}

    def recorder(self, names: Sequence[str]) -> Recorder:
        return Recorder(f"{self.name}, {self.rows} slots", self.rows, names=names, launch_waits=backend() == "cpu")


class PagedEngine:
    """The engine of week 3: a request has blocks, and shares some of them."""

    name = "paged"
    column = "blocks"
    rows = 0

    def __init__(
        self,
        answer: ModuleType,
        model: Any,
        items: Sequence[WorkItem],
        slots: int,
        sizes: PagedSizes,
        kernels: str | None = None,
    ) -> None:
        self.sizes = sizes
        self.engine = paged_engine(answer, model, items, slots, sizes, kernels)
        self.most_used = 0

    def place(self, request: Any) -> tuple[int, str]:
        return 0, str(len(request.blocks))

    def memory(self) -> str:
        held = Counter(block for request in self.engine.running.values() for block in request.blocks)
        self.most_used = max(self.most_used, len(held))
        shared = sum(count > 1 for count in held.values())
        pool, metrics = self.engine.pool, self.engine.metrics
        kept = pool.num_blocks - pool.num_free - len(held)
        return (
            f"blocks: {len(held)} of {pool.num_blocks} used, {shared} of them shared, {kept} kept for reuse, {pool.num_free}"
            f" free; {_counts(metrics)}"
        )

    def summary(self, crowded: float | None) -> str:
        packed = f", keys and values in {self.sizes.kv_bits} bits" if self.sizes.kv_bits else ""
        blocks = f"at most {self.most_used} of {self.engine.pool.num_blocks} blocks in use{packed}"
        drafts = f"; {describe_drafts(self.engine.metrics)}" if self.sizes.speculate else ""
        return f"{blocks}; {_counts(self.engine.metrics)}{drafts}"

    def as_json(self) -> dict[str, Any]:
        metrics, pool = self.engine.metrics, self.engine.pool
        return {
            "num_blocks": pool.num_blocks,
            "block_size": pool.block_size,
            "max_num_seqs": self.sizes.max_num_seqs,
            "max_num_batched_tokens": self.sizes.max_num_batched_tokens,
            "kv_bits": self.sizes.kv_bits,
            "most_blocks_used": self.most_used,
            "prefix_cache_queries": metrics.prefix_cache_queries,
            "prefix_cache_hits": metrics.prefix_cache_hits,
            "num_preemptions": metrics.num_preemptions,
            "num_evictions": metrics.num_evictions,
            "computed_tokens": metrics.computed_tokens,
            **(drafts_as_json(metrics) if self.sizes.speculate else {}),
        }

    def recorder(self, names: Sequence[str]) -> Recorder:
        pool = self.engine.pool
        name = f"{self.name}, {pool.num_blocks} blocks of {pool.block_size} tokens"
        return Recorder(name, block_size=pool.block_size, names=names, launch_waits=backend() == "cpu")


def _counts(metrics: Any) -> str:
    return (
        f"evicted {metrics.num_evictions}, preempted {metrics.num_preemptions}, prefix hits {metrics.prefix_cache_hit_rate:.0%}"
    )
