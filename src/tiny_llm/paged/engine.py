"""The paged engine: the loop in which requests share blocks, a budget of tokens, and one call of the model.

One step is: plan → launch → read what the previous step computed → update the requests. `scheduler` decides, `runner` computes,
`request_book` keeps track of which requests wait, run and have ended, and `block_pool` and `prefix_cache` of which blocks are
held. Ways to use the engine are in `streams`.
"""

import time
from collections import Counter
from collections.abc import Callable
from heapq import heappop, heappush

from tiny_llm_kit.course import task

from ..event_log import EventKind
from ..in_flight import InFlight
from ..model import Model
from ..request import Request
from .block_pool import BlockPool, blocks_for
from .fair_queue import FairQueue
from .metrics import PagedMetrics
from .paged_kv_cache import PagedAttention
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest
from .runner import PagedRunner
from .scheduler import MixedPlan, Scheduler
from .streams import StreamingBook


class Engine(StreamingBook):
    """Serves requests from a pool of blocks: as many run as the blocks allow, and each step is one call of the model.

    Args:
        model: see `Model`.
        num_blocks, block_size: the memory for the keys and values of all requests together; `block_size` is in tokens of one
            sequence.
        max_num_seqs, max_num_batched_tokens, watermark: see `Scheduler`.
        max_seq_len: most tokens a request may have, prompt and answer together; None: as many as the model was made for.
        prefix_caching: whether requests share the blocks of equal prefixes.
        paged_attention, kv_bits: see `PagedRunner`.
        clock: seconds, for the metrics and for deadlines.
    Raises:
        ValueError: if a size is less than 1, or as `Scheduler` and `PagedRunner`.
    """

    def __init__(
        self,
        model: Model,
        *,
        num_blocks: int,
        block_size: int = 16,
        max_num_seqs: int = 64,
        max_num_batched_tokens: int = 192,
        watermark: float = 0.01,
        max_seq_len: int | None = None,
        prefix_caching: bool = True,
        paged_attention: PagedAttention | None = None,
        kv_bits: int | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if max_seq_len is not None and max_seq_len < 1:
            raise ValueError(f"max_seq_len is {max_seq_len}: it must be at least 1")
        self.pool = BlockPool(num_blocks, block_size)
        super().__init__(max_seq_len or model.config.max_position_embeddings, model.config.vocab_size, clock)
        self.scheduler = Scheduler(max_num_seqs, max_num_batched_tokens, watermark)
        self.runner = PagedRunner(model, num_blocks, block_size, paged_attention, kv_bits)
        self.prefix_caching = prefix_caching
        self.prefix_cache = PrefixCache(self.pool)
        self.metrics: PagedMetrics = PagedMetrics(prefix_caching=prefix_caching)
        self.waiting: FairQueue = FairQueue()
        self._deadlines: list[tuple[float, int, PagedRequest]] = []
        self._in_flight = InFlight()

    @task(week=3, day=4, number=6)
    def submit(self, request: Request) -> PagedRequest:
        """Queue a new request; see `RequestBook.submit`.

        Raises:
            ValueError: also if it could need more blocks than the pool has, or is not a `PagedRequest`.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def step(self) -> list[Request]:
        """Run one step and return the requests that have ended since the last one.

        Raises:
            BaseException: as `ContinuousBatchScheduler.step`.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _end_late(self) -> None:
        """End the requests whose deadline has passed, waiting or running. Those that have already ended are only forgotten."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _launch(self, plan: MixedPlan) -> InFlight:
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _assign_blocks(self, plan: MixedPlan) -> None:
        """Move blocks as planned. What was found in the prefix cache is locked before anything is evicted from it."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _admit(self, request: PagedRequest, match: Match) -> None:
        """Let a request run, with the blocks of its match, which are locked, and others for all that is known of it.

        It does not use `RequestBook.admit`, which goes through all overtaken requests: here requests take turns, and thousands
        may wait.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _copy_last_block(self, request: PagedRequest) -> None:
        """Copy on write: other requests read the block, and this request will write its last token into it."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _grow(self, request: PagedRequest, tokens: int) -> None:
        """Make room for this many tokens in a request's table."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _allocate(self, count: int) -> list[int]:
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens of the last step to their requests; return how many were kept."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def _publish(self, request: PagedRequest) -> None:
        """File the full blocks of a request whose next token has come back: all tokens before it have been computed, and are
        sound."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def preempt(self, request: PagedRequest) -> None:
        """Take a running request's blocks away. It waits again, and when it is admitted, all its known tokens are computed
        again.

        A token that is in flight for it is kept when it comes back.

        Raises:
            ValueError: if the request is not running.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def release(self, request: Request) -> None:
        """Give back the request's blocks. The prefix cache keeps those that it knows until the space is needed."""
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def abandon(self, error: BaseException) -> None:
        """End all running requests. What the device holds may depend on a computation that failed, and its bookkeeping may be
        in the middle of a change, so both are made again. The waiting requests keep waiting.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @task(week=3, day=4, number=6)
    def check_integrity(self) -> None:
        """Everything must be accounted for, between any two steps.

        Every block is free, or has one reference for each occurrence in the tables of running requests and in the prefix cache.
        Each table has room for the tokens that its request has computed. Waiting requests hold nothing, and no running request
        has finished. Each waiting or running request has as many tokens `in_flight` as are on their way.

        Raises:
            RuntimeError: saying what is wrong.
        """
        raise NotImplementedError("Week 3 Day 4, task 6: the engine. Read book/src/week3-04-token-budget-scheduler.md")

    @property
    def _running(self) -> list[PagedRequest]:
        return [request for request in self.running.values() if isinstance(request, PagedRequest)]
