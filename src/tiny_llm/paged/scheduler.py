"""What the next step computes, under a budget of tokens and a pool of blocks.

Plain Python, no arrays: a plan is made from the counters of the requests and the pool, and changes neither. Decodes and prompt
chunks share a step as in Sarathi-Serve (OSDI 2024, section 4.3); preemption by recomputation is vLLM's (SOSP 2023, section
4.5).
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tiny_llm_kit.course import task

from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest


@dataclass(frozen=True)
class Chunk:
    """Compute the tokens `start` … `end` − 1 of a request.

    Args:
        match: for a request that this plan admits, what its table begins with; it has to be locked before anything is evicted.
    """

    request: PagedRequest
    start: int
    end: int
    match: Match | None = None


@dataclass(frozen=True)
class MixedPlan:
    """One step: a token for each of `decodes`, and these chunks, after `preempted` have lost their blocks.

    Blocks are assigned in this order: the preempted requests give back theirs, the matches of all chunks are locked, the
    decodes get theirs, and then the admitted requests get theirs, each for all its known tokens.
    """

    decodes: list[PagedRequest]
    chunks: list[Chunk]
    preempted: list[PagedRequest]

    @property
    def tokens(self) -> int:
        """How many tokens the model is given."""
        return len(self.decodes) + sum(chunk.end - chunk.start for chunk in self.chunks)


class Scheduler:
    """Decodes go first, prompt chunks fill what is left of the budget, and blocks decide which requests are admitted.

    Args:
        max_num_seqs: most requests that run at a time.
        max_num_batched_tokens: most tokens per step.
        watermark: share of the pool that admission leaves free while others run, so that they can grow.
    Raises:
        ValueError: if `max_num_seqs` is below 1 or above `max_num_batched_tokens` (then some could not decode), or the
            watermark is not from 0 to below 1.
    """

    def __init__(self, max_num_seqs: int, max_num_batched_tokens: int, watermark: float = 0.01) -> None:
        if max_num_seqs < 1:
            raise ValueError(f"max_num_seqs is {max_num_seqs}: it must be at least 1")
        if max_num_batched_tokens < max_num_seqs:
            raise ValueError(
                f"max_num_batched_tokens is {max_num_batched_tokens}, less than max_num_seqs, {max_num_seqs}: a step must have"
                " room for a token of each request that runs"
            )
        if not 0 <= watermark < 1:
            raise ValueError(f"watermark is {watermark}: it is a share of the pool, from 0 to below 1")
        self.max_num_seqs = max_num_seqs
        self.max_num_batched_tokens = max_num_batched_tokens
        self.watermark = watermark

    @task(week=3, day=4, number=4)
    def plan(
        self,
        waiting: Iterable[PagedRequest],
        running: Sequence[PagedRequest],
        pool: BlockPool,
        prefix_cache: PrefixCache,
    ) -> MixedPlan:
        """Plan one step.

        1. Every request that decodes gets a token, the oldest first. If the blocks do not suffice, the youngest loses its own
           and waits again; the oldest is never preempted.
        2. Prompts that have been started continue, the oldest first, with what is left of the budget.
        3. Waiting requests are admitted in order, while there is budget, a seat, and room for all known tokens of the next one.
           The first that does not fit ends this, or small requests could overtake a large one forever. None is admitted in a
           step that preempts. A request whose token is still in flight is passed over until it is back.

        Args:
            waiting: the next one first; no more are looked at than needed.
            running: in order of admission. Requests for which everything has been launched only wait for their last token: they
                need neither a token nor a seat, and they are not preempted.
            pool, prefix_cache: only read.
        """
        raise NotImplementedError("Week 3 Day 4, task 4: the plan. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=4)
    def _plan_running(
        self, claims: Sequence[PagedRequest], blocks: "_FreeBlocks"
    ) -> tuple[list[PagedRequest], list[PagedRequest], list[PagedRequest]]:
        """The requests that decode, those whose prompt has been started, and those preempted for them: the end of `claims`."""
        raise NotImplementedError("Week 3 Day 4, task 4: the plan. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=4)
    def _plan_admissions(
        self, waiting: Iterable[PagedRequest], seats: int, budget: int, others_run: bool, blocks: "_FreeBlocks"
    ) -> Iterator[Chunk]:
        """The first chunks of the admitted requests."""
        raise NotImplementedError("Week 3 Day 4, task 4: the plan. Read book/src/week3-04-token-budget-scheduler.md")


class _FreeBlocks:
    """How many blocks a plan can still assign, free ones and evictable ones, without touching the pool."""

    def __init__(self, pool: BlockPool, prefix_cache: PrefixCache) -> None:
        self.pool = pool
        self.prefix_cache = prefix_cache
        self.free = pool.num_free + prefix_cache.evictable
        self._change: Counter[int] = Counter()  # of references, according to the plan so far

    def _idle(self, block: int) -> bool:
        """Whether nothing would hold a block, except perhaps the prefix cache."""
        return self.pool.references(block) + self._change[block] == int(self.prefix_cache.holds(block))

    @task(week=3, day=4, number=4)
    def give_back(self, table: Sequence[int]) -> None:
        """Count the blocks that become free when a request loses its own: not those that others hold, too."""
        raise NotImplementedError("Week 3 Day 4, task 4: the plan. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=4)
    def admit(self, tokens: Sequence[int], reserve: int) -> Match | None:
        """Count the blocks that `tokens` need, and return their match in the cache; None if it would leave less than `reserve`.

        A partly used block takes another one, for the copy. If there is no room for that, the match goes without it.
        """
        raise NotImplementedError("Week 3 Day 4, task 4: the plan. Read book/src/week3-04-token-budget-scheduler.md")
