"""Figures of the paged engine, in addition to those that every engine has. The names are vLLM's."""

from dataclasses import dataclass, field

from tiny_llm_kit.course import task

from ..event_log import ENDS, BatchState, Event, EventKind
from ..metrics import BatchingMetrics


@dataclass
class PagedMetrics(BatchingMetrics):
    """`BatchingMetrics`, and figures about blocks.

    Everything except evictions and drafts is read from the log, so what happens between two iterations counts with the later
    one, and simulated runs have these figures, too.

    Args:
        prefix_cache_queries: prompt tokens that were looked for in the prefix cache, once for each request.
        prefix_cache_hits: those that were found and not computed again. A preempted request that finds its own tokens is not a
            hit.
        num_preemptions: how often a request lost its blocks.
        num_evictions: blocks that the prefix cache gave up, because they were needed. The engine counts them: there is no event
            for it, since events are about requests, and these blocks belonged to none.
        computed_tokens: tokens that the model was given. Failures were not computed: a chunk whose request fails in the same
            iteration does not count, nor does an iteration in which all requests fail.
        prefix_caching: whether there is a prefix cache; the log does not say.
        spec_decode_num_draft_tokens: tokens that a drafter guessed and the model checked. The engine counts them, and adds
            them to `computed_tokens`.
        spec_decode_num_accepted_tokens: those that the model agreed with.
    """

    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    num_preemptions: int = 0
    num_evictions: int = 0
    computed_tokens: int = 0
    prefix_caching: bool = True
    spec_decode_num_draft_tokens: int = 0
    spec_decode_num_accepted_tokens: int = 0
    _prompts: dict[int, int] = field(default_factory=dict)  # lengths, of requests without any computed token
    _running: set[int] = field(default_factory=set)

    def update(self, batch_state: BatchState) -> None:
        """Take in one iteration."""
        super().update(batch_state)
        chunks: dict[int, int] = {}
        failed = 0
        for event in batch_state.events:
            if event.kind is EventKind.TOKEN:  # no figure needs it, and there is one for every row
                continue
            self._follow(event)
            if event.kind is EventKind.PREFILL_CHUNK:
                chunks[event.request_id] = event.tokens
            elif event.kind is EventKind.FAILED:
                chunks.pop(event.request_id, None)
                failed += 1
        if self._running or failed < batch_state.active_requests:
            decodes = batch_state.active_requests - len(chunks)
            self.computed_tokens += sum(chunks.values()) + decodes

    def _follow(self, event: Event) -> None:
        if event.kind is EventKind.ARRIVED:
            self._prompts[event.request_id] = event.tokens
        elif event.kind is EventKind.PREFILL_CHUNK:
            self._running.add(event.request_id)
            prompt = self._prompts.pop(event.request_id, None)
            if prompt is not None and self.prefix_caching:  # its first chunk begins where the match ends
                self.prefix_cache_queries += prompt
                self.prefix_cache_hits += event.position - event.tokens
        elif event.kind is EventKind.PREEMPTED:
            self.num_preemptions += 1
            self._running.discard(event.request_id)
        elif event.kind in ENDS:
            self._prompts.pop(event.request_id, None)
            self._running.discard(event.request_id)

    @property
    @task(week=3, day=4, number=6)
    def prefix_cache_hit_rate(self) -> float:
        """Share of the prompt tokens that were found, 0 … 1; 0 before there are any."""
        return self.prefix_cache_hits / self.prefix_cache_queries if self.prefix_cache_queries else 0.0
