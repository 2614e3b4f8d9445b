"""What an engine looks like after a step, for observers in other threads. Metrics have vLLM's names.

It knows both engines, and asks each for what it has.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class RequestState:
    """One running request. `state` is "prefilling" or "decoding"; `computed_tokens` are those of prompt and answer."""

    request_id: int
    prompt_tokens: int
    generated_tokens: int
    max_tokens: int
    state: str
    computed_tokens: int


@dataclass(frozen=True, slots=True)
class EngineSnapshot:
    """An engine after a step. What an engine does not have is 0.

    Args:
        max_running: how many requests may run at once.
        max_seq_len: most tokens of a prompt and its answer.
        kv_used, kv_total: blocks or slots, see `kv_unit`. A block that only the prefix cache holds can be had at any time, so
            it is not in use.
        steps, generation_tokens: counted since the engine was made, like those that follow; see `PagedMetrics`.
        requests: the running ones, in order of admission.
    """

    num_requests_running: int = 0
    num_requests_waiting: int = 0
    max_running: int = 0
    max_seq_len: int = 0
    kv_unit: str = "blocks"
    kv_used: int = 0
    kv_total: int = 0
    steps: int = 0
    generation_tokens: int = 0
    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    num_preemptions: int = 0
    spec_decode_num_draft_tokens: int = 0
    spec_decode_num_accepted_tokens: int = 0
    requests: tuple[RequestState, ...] = ()

    @property
    def kv_cache_usage_perc(self) -> float:
        """The share that is in use, 0 … 1, despite the `perc` in vLLM's name."""
        return self.kv_used / self.kv_total if self.kv_total else 0.0


_COUNTERS = (
    "prefix_cache_queries",
    "prefix_cache_hits",
    "num_preemptions",
    "spec_decode_num_draft_tokens",
    "spec_decode_num_accepted_tokens",
)


def take_snapshot(engine: Any) -> EngineSnapshot:
    """Look at an engine, in its own thread. It takes a few microseconds per running request."""
    metrics = engine.metrics
    unit, used, total, max_running = _memory_of(engine)
    return EngineSnapshot(
        max_seq_len=engine.max_seq_len,
        num_requests_running=len(engine.running),
        num_requests_waiting=len(engine.waiting),
        max_running=max_running,
        kv_unit=unit,
        kv_used=used,
        kv_total=total,
        steps=metrics.steps,
        generation_tokens=metrics.total_tokens,
        requests=tuple(
            RequestState(one.request_id, len(one.prompt), len(one.generated_tokens), one.max_tokens, one.state, one.offset)
            for one in engine.running.values()
        ),
        **{name: getattr(metrics, name, 0) for name in _COUNTERS},
    )


def _memory_of(engine: Any) -> tuple[str, int, int, int]:
    """Unit, used, total, and how many requests may run."""
    if hasattr(engine, "pool"):
        pool = engine.pool
        used = pool.num_blocks - pool.num_free - engine.prefix_cache.evictable
        return "blocks", used, pool.num_blocks, engine.scheduler.max_num_seqs
    if hasattr(engine, "slots"):
        return "slots", len(engine.slots.slot_of), engine.slots.max_slots, engine.slots.max_slots
    return "blocks", 0, 0, 0
