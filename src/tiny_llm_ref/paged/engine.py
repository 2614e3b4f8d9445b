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
        if not isinstance(request, PagedRequest):
            raise ValueError(f"request {request.request_id} is a {type(request).__name__}: this engine serves a PagedRequest")
        longest = min(len(request.prompt) + request.max_tokens, self.max_seq_len) - 1  # the last token is never an input
        if blocks_for(longest, self.pool.block_size) > self.pool.num_blocks:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens and an answer of {request.max_tokens} need"
                f" {blocks_for(longest, self.pool.block_size)} blocks, and the pool has {self.pool.num_blocks}: shorten one of"
                " them or raise num_blocks"
            )
        super().submit(request)
        if request.deadline is not None:
            heappush(self._deadlines, (request.deadline, request.request_id, request))
        return request

    @task(week=3, day=4, number=6)
    def step(self) -> list[Request]:
        """Run one step and return the requests that have ended since the last one.

        Raises:
            BaseException: as `ContinuousBatchScheduler.step`.
        """
        with self.iteration():
            self._end_late()
            plan = self.scheduler.plan(self.waiting.in_turn(), self._running, self.pool, self.prefix_cache)
            launched = self._launch(plan)
            queue_size = len(self.waiting)
            landed, self._in_flight = self._in_flight, launched
            new_tokens = self._update(landed)
        active = len(plan.decodes) + len(plan.chunks)
        return self.close_iteration(active, self.scheduler.max_num_seqs, queue_size, new_tokens)

    @task(week=3, day=4, number=6)
    def _end_late(self) -> None:
        """End the requests whose deadline has passed, waiting or running. Those that have already ended are only forgotten."""
        now = self.clock()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].finish_reason is not None):
            deadline, _, request = heappop(self._deadlines)
            if request.finish_reason is None:
                late = TimeoutError(f"request {request.request_id} had not ended at {deadline}, its deadline")
                self.end(request, "error", late)

    @task(week=3, day=4, number=6)
    def _launch(self, plan: MixedPlan) -> InFlight:
        launched = InFlight()
        try:
            self._assign_blocks(plan)
            working = [*plan.decodes, *(chunk.request for chunk in plan.chunks)]
            if working:
                with self.failures_end(working):
                    if step := self.runner.run(plan):
                        launched.add(*step)
                    for chunk in plan.chunks:
                        self.log_chunk(chunk.request, chunk.start, chunk.end)
            launched.start()
            self.runner.start()
            return launched
        except Exception as error:  # a copied block is waited for, so a failure of the device may show up here first
            self.abandon(error)
            return InFlight()

    @task(week=3, day=4, number=6)
    def _assign_blocks(self, plan: MixedPlan) -> None:
        """Move blocks as planned. What was found in the prefix cache is locked before anything is evicted from it."""
        for request in plan.preempted:
            self.preempt(request)
        for chunk in plan.chunks:
            if chunk.match is not None:
                self.prefix_cache.lock(chunk.match)
        for request in plan.decodes:
            self._grow(request, request.offset + 1)
        for chunk in plan.chunks:
            if chunk.match is not None:
                self._admit(chunk.request, chunk.match)

    @task(week=3, day=4, number=6)
    def _admit(self, request: PagedRequest, match: Match) -> None:
        """Let a request run, with the blocks of its match, which are locked, and others for all that is known of it.

        It does not use `RequestBook.admit`, which goes through all overtaken requests: here requests take turns, and thousands
        may wait.
        """
        self.running[request.request_id] = request  # first, as in `end`
        del self.waiting[request.request_id]
        request.hold(list(match.blocks), match.tokens)
        request.published = match.tokens // self.pool.block_size
        if match.tokens < len(match.blocks) * self.pool.block_size:
            self._copy_last_block(request)
        self._grow(request, len(request.tokens))
        if not request.preemptions:
            self.event_log.record(EventKind.ADMITTED, request.request_id)
        self.waiting.charge(request, len(request.tokens) - match.tokens)

    @task(week=3, day=4, number=6)
    def _copy_last_block(self, request: PagedRequest) -> None:
        """Copy on write: other requests read the block, and this request will write its last token into it."""
        shared = request.blocks[-1]
        request.blocks[-1:] = self._allocate(1)
        self.runner.copy_block(shared, request.blocks[-1])
        self.prefix_cache.release([shared])

    @task(week=3, day=4, number=6)
    def _grow(self, request: PagedRequest, tokens: int) -> None:
        """Make room for this many tokens in a request's table."""
        request.blocks += self._allocate(blocks_for(tokens, self.pool.block_size) - len(request.blocks))

    @task(week=3, day=4, number=6)
    def _allocate(self, count: int) -> list[int]:
        if count > self.pool.num_free:
            self.metrics.num_evictions += self.prefix_cache.evict(count - self.pool.num_free)
        blocks = self.pool.allocate(count)
        assert blocks is not None, "a plan gives away only what is there"
        return blocks

    @task(week=3, day=4, number=6)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens of the last step to their requests; return how many were kept."""
        try:
            tokens = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        kept = 0
        for request, token, sound in tokens:
            assert isinstance(request, PagedRequest)
            request.in_flight -= 1
            if sound:
                self._publish(request)  # before its blocks are given back, if this is its last token
                kept_now = self.take(request, token)
                kept += kept_now
                self.waiting.charge(request, kept_now)
            elif request.finish_reason is None:  # otherwise no request needs this row
                self.end(request, "error", FloatingPointError("the model's logits are NaN or infinite: no token follows"))
        return kept

    @task(week=3, day=4, number=6)
    def _publish(self, request: PagedRequest) -> None:
        """File the full blocks of a request whose next token has come back: all tokens before it have been computed, and are
        sound."""
        full = (len(request.prompt) + len(request.generated_tokens)) // self.pool.block_size
        if self.prefix_caching and request.blocks and full > request.published:
            known = request.tokens[: full * self.pool.block_size]
            duplicates = self.prefix_cache.insert(known, request.blocks[:full])
            request.blocks = [duplicates.get(block, block) for block in request.blocks]
            request.published = full

    @task(week=3, day=4, number=6)
    def preempt(self, request: PagedRequest) -> None:
        """Take a running request's blocks away. It waits again, and when it is admitted, all its known tokens are computed
        again.

        A token that is in flight for it is kept when it comes back.

        Raises:
            ValueError: if the request is not running.
        """
        if request.request_id not in self.running:
            raise ValueError(f"request {request.request_id} is {request.state}, and only one that runs can be preempted")
        self.waiting[request.request_id] = request  # first, as in `end`
        del self.running[request.request_id]
        self.release(request)
        self.event_log.record(EventKind.PREEMPTED, request.request_id)
        request.preemptions += 1

    @task(week=3, day=4, number=6)
    def release(self, request: Request) -> None:
        """Give back the request's blocks. The prefix cache keeps those that it knows until the space is needed."""
        assert isinstance(request, PagedRequest)
        self.prefix_cache.release(request.let_go())

    @task(week=3, day=4, number=6)
    def abandon(self, error: BaseException) -> None:
        """End all running requests. What the device holds may depend on a computation that failed, and its bookkeeping may be
        in the middle of a change, so both are made again. The waiting requests keep waiting.
        """
        self._in_flight = InFlight()
        self.waiting.mend()
        for request in [*self._running, *self.waiting.values()]:
            request.let_go()
            request.in_flight = 0
        self.pool = BlockPool(self.pool.num_blocks, self.pool.block_size)
        self.prefix_cache = PrefixCache(self.pool)
        self.runner.reset()
        super().abandon(error)

    @task(week=3, day=4, number=6)
    def check_integrity(self) -> None:
        """Everything must be accounted for, between any two steps.

        Every block is free, or has one reference for each occurrence in the tables of running requests and in the prefix cache.
        Each table has room for the tokens that its request has computed. Waiting requests hold nothing, and no running request
        has finished. Each waiting or running request has as many tokens `in_flight` as are on their way.

        Raises:
            RuntimeError: saying what is wrong.
        """
        self.pool.check_integrity([*(request.blocks for request in self._running), self.prefix_cache.blocks])
        self.prefix_cache.check_integrity()
        for request in self._running:
            if request.finish_reason is not None:
                raise RuntimeError(f"request {request.request_id} has finished and still runs")
            if blocks_for(request.offset, self.pool.block_size) > len(request.blocks):
                raise RuntimeError(f"request {request.request_id} has computed {request.offset} tokens in {request.blocks}")
        if holding := [request.request_id for request in self.waiting.values() if request.blocks or request.offset]:
            raise RuntimeError(f"requests {holding} wait and hold blocks")
        on_their_way = Counter(request.request_id for request in self._in_flight.requests)
        for request in [*self._running, *self.waiting.values()]:
            if request.in_flight != (launched := on_their_way[request.request_id]):
                raise RuntimeError(f"request {request.request_id} expects {request.in_flight} tokens, and {launched} will come")

    @property
    def _running(self) -> list[PagedRequest]:
        return [request for request in self.running.values() if isinstance(request, PagedRequest)]
