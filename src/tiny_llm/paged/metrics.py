"""Figures of the paged engine, beside those that every engine has. The names are vLLM's."""

from dataclasses import dataclass

from tiny_llm_kit.course import task

from ..metrics import BatchingMetrics


@dataclass
class PagedMetrics(BatchingMetrics):
    """`BatchingMetrics`, and what the blocks were good for.

    Args:
        prefix_cache_queries: prompt tokens that were looked for in the prefix cache, once for each request.
        prefix_cache_hits: those that were found, so that nobody computed them again. A request that was preempted finds its own
            tokens, and that is no hit.
        num_preemptions: how often a request lost its blocks.
        num_evictions: blocks that the prefix cache gave up, because somebody needed them.
        computed_tokens: tokens that the model was given.
        spec_decode_num_draft_tokens: those of them that a drafter had guessed.
        spec_decode_num_accepted_tokens: guesses that the model agreed with.
    """

    prefix_cache_queries: int = 0
    prefix_cache_hits: int = 0
    num_preemptions: int = 0
    num_evictions: int = 0
    computed_tokens: int = 0
    spec_decode_num_draft_tokens: int = 0
    spec_decode_num_accepted_tokens: int = 0

    @property
    @task(week=3, day=4, number=6)
    def prefix_cache_hit_rate(self) -> float:
        """Share of the prompt tokens that were found, 0 … 1; 0 before there are any."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")
