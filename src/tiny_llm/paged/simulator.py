"""A discrete-event simulation of the paged engine, whose own scheduler, queue, pool and prefix cache decide.

See `measure.simulator`.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from math import inf

from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import EventKind
from ..measure.cost_model import CostModel
from ..measure.simulated_time import Arrivals, Launch, SimulatedDevice, Wanted, chunk_call, decode_call, mixed_call
from ..measure.simulator import Readers
from ..request import Request
from ..request_book import RequestBook
from .block_pool import BlockPool, blocks_for
from .fair_queue import FairQueue
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest
from .scheduler import MixedPlan, Scheduler


def simulate_paged(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    *,
    num_blocks: int,
    block_size: int = 16,
    max_num_seqs: int = 64,
    max_num_batched_tokens: int = 192,
    watermark: float = 0.01,
    prefix_caching: bool = True,
    readers: Readers = (),
    wanted: Wanted | None = None,
) -> None:
    """Simulate `Engine`; for the arguments see there and `simulate_slots`.

    The tokens of an answer are nobody else's: a later prompt never finds them in the prefix cache.

    Raises:
        ValueError: as `Engine` and its `submit`, or if arrivals do not ascend.
    """
    device = SimulatedDevice(cost)
    coming = Arrivals(arrivals, wanted, PagedRequest)
    scheduler = Scheduler(max_num_seqs, max_num_batched_tokens, watermark)
    engine = _PagedSimulation(device, scheduler, BlockPool(num_blocks, block_size), prefix_caching, readers)
    while engine.has_work or coming.time < inf:
        if not engine.has_work:
            device.wait_until(coming.time)
        coming.submit_until(device.now, engine)
        engine.iterate()
        if engine.calm:
            engine.coast(coming)


class _PagedSimulation(RequestBook):
    """The engine without its model.

    The prefix cache is told of an answer's blocks when the request loses them, and not whenever one is full: nobody else could
    have found them in the meantime.
    """

    def __init__(
        self, device: SimulatedDevice, scheduler: Scheduler, pool: BlockPool, prefix_caching: bool, readers: Readers
    ) -> None:
        super().__init__(sys.maxsize, sys.maxsize, device.clock)
        self.event_log.readers.extend(readers)
        self.device = device
        self.scheduler = scheduler
        self.pool = pool
        self.prefix_cache = PrefixCache(pool)
        self.prefix_caching = prefix_caching
        self.waiting = self.queue = FairQueue()
        self.holders: dict[int, PagedRequest] = {}  # those who run
        self.unread: set[int] = set()  # those for whom no token has come back since they were admitted
        self.in_flight = Launch()
        self.asking: list[PagedRequest] = []  # for whom tokens are in flight, in order
        self.calm = False  # whether the last plan would be made again

    @property
    def has_work(self) -> bool:
        """Whether anyone waits, runs, or has a token on its way."""
        return bool(self.queue or self.holders)

    def submit(self, request: Request) -> Request:
        """Queue a new request; ValueError also if it could need more blocks than the pool has."""
        longest = len(request.prompt) + request.max_tokens - 1  # the last token is not computed on
        if (needed := blocks_for(longest, self.pool.block_size)) > self.pool.num_blocks:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens and an answer of {request.max_tokens} need {needed} blocks, and the"
                f" pool has {self.pool.num_blocks}: raise num_blocks"
            )
        return super().submit(request)

    def iterate(self) -> None:
        """Plan, launch, and read what the iteration before launched."""
        running = list(self.holders.values())
        plan = self.scheduler.plan(self.queue.in_turn(), running, self.pool, self.prefix_cache)
        self._assign_blocks(plan)
        launched, asking = self._launch(plan)
        landed, self.in_flight = self.in_flight, launched
        read, self.asking = self.asking, asking
        self.device.read(landed, self.event_log)
        anything_new = [self._take(request) for request in read].count(True)
        only_decodes = len(plan.decodes) == len(self.holders) and not plan.preempted
        self.calm = only_decodes and not anything_new and not self.unread
        active = len(plan.decodes) + len(plan.chunks)
        self.event_log.close_step(active, self.scheduler.max_num_seqs, len(self.queue), landed.tokens)

    def coast(self, coming: Arrivals) -> None:
        """Repeat the last plan for as long as it would be made again, without making it.

        That is until somebody's last token is launched, somebody comes who can be admitted at once, or a row needs a block and
        none is left.
        """
        rows, size = list(self.holders.values()), self.pool.block_size
        free = self.pool.num_free + self.prefix_cache.evictable
        open_seat = not self.queue and len(rows) < self.scheduler.max_num_seqs
        growing = Counter(request.offset % size for request in rows)  # those with 0 need a block now, with 1 a step before
        longest = max(request.offset for request in rows)
        steps = 0
        for _ in range(min(len(request.prompt) + request.max_tokens - 2 - request.offset for request in rows)):
            if coming.time <= self.device.now:
                if open_seat:
                    break
                coming.submit_until(self.device.now, self)
            free -= growing[-steps % size]
            if free < 0:
                break
            steps += 1
            landed, self.in_flight = self.in_flight, Launch(len(rows))
            self.device.launch(self.in_flight, [decode_call(len(rows), longest + steps, size)])
            self.device.read(landed, self.event_log)
            self.event_log.close_step(len(rows), self.scheduler.max_num_seqs, len(self.queue), len(rows))
        for request in rows:
            request.offset += steps
            request.generated_tokens += [~request.request_id] * steps
            self._grow(request, request.offset)

    def _assign_blocks(self, plan: MixedPlan) -> None:
        """Move blocks as planned, in the engine's order."""
        for request in plan.preempted:
            self._preempt(request)
        for chunk in plan.chunks:
            if chunk.match is not None:
                self.prefix_cache.lock(chunk.match)
        for request in plan.decodes:
            if request.offset % self.pool.block_size == 0:
                self._grow(request, request.offset + 1)
        for chunk in plan.chunks:
            if chunk.match is not None:
                self._admit(chunk.request, chunk.match)

    def _preempt(self, request: PagedRequest) -> None:
        if request.request_id not in self.unread:
            self._publish(request, len(request.prompt) + len(request.generated_tokens) - 1)
        self._let_go(request)
        self.queue[request.request_id] = request
        self.event_log.record(EventKind.PREEMPTED, request.request_id)
        request.preemptions += 1

    def _admit(self, request: PagedRequest, match: Match) -> None:
        """Let a request run, with the blocks of its match, which are locked, and others for all that is known of it."""
        del self.queue[request.request_id]
        self.holders[request.request_id] = request
        self.unread.add(request.request_id)
        request.hold(list(match.blocks), match.tokens)
        request.published = match.tokens // self.pool.block_size
        if request.published < len(match.blocks):  # others read the last block, and this one will write into it
            shared = request.blocks[-1]
            request.blocks[-1:] = self._allocate(1)
            self.prefix_cache.release([shared])
        self._grow(request, len(request.prompt) + len(request.generated_tokens))
        if not request.preemptions:
            self.event_log.record(EventKind.ADMITTED, request.request_id)

    def _grow(self, request: PagedRequest, tokens: int) -> None:
        request.blocks += self._allocate(blocks_for(tokens, self.pool.block_size) - len(request.blocks))

    def _allocate(self, count: int) -> list[int]:
        if count > self.pool.num_free:
            self.prefix_cache.evict(count - self.pool.num_free)
        blocks = self.pool.allocate(count)
        assert blocks is not None, "a plan gives away only what is there"
        return blocks

    def _launch(self, plan: MixedPlan) -> tuple[Launch, list[PagedRequest]]:
        """Launch the one call of a plan; returns also whom it asks for a token."""
        size, asking, calls = self.pool.block_size, list(plan.decodes), []
        for request in plan.decodes:
            request.offset += 1
        if plan.decodes:
            calls.append(decode_call(len(plan.decodes), max([request.offset for request in plan.decodes]), size))
        for chunk in plan.chunks:
            complete = chunk.end - chunk.start == chunk.request.to_compute
            calls.append(chunk_call(chunk.start, chunk.end, complete, size))
            self.log_chunk(chunk.request, chunk.start, chunk.end)
            chunk.request.offset = chunk.end
            if complete:
                asking.append(chunk.request)
        for request in asking:
            request.in_flight += 1
        launched = Launch(len(asking))
        self.device.launch(launched, [mixed_call(calls)] if calls else [])
        return launched, asking

    def _take(self, request: PagedRequest) -> bool:
        """Give a request the token that has come back; returns whether that changes more than its counters."""
        request.in_flight -= 1
        request.generated_tokens.append(~request.request_id)
        count = len(request.generated_tokens)
        first, last, unread = count == 1, count == request.max_tokens, request.request_id in self.unread
        if unread or last:
            self._publish(request, len(request.prompt) + count - 1)
            self.unread.discard(request.request_id)
        if first:
            self.event_log.record(EventKind.FIRST_TOKEN, request.request_id)
        if last:
            self._let_go(request)
            self.event_log.record(EventKind.FINISHED, request.request_id, count)
        return first or last or unread

    def _publish(self, request: PagedRequest, computed: int) -> None:
        """File the full blocks of so many tokens in the prefix cache."""
        full = computed // self.pool.block_size
        if self.prefix_caching and full > request.published:
            duplicates = self.prefix_cache.insert(request.tokens[: full * self.pool.block_size], request.blocks[:full])
            request.blocks = [duplicates.get(block, block) for block in request.blocks]
            request.published = full

    def _let_go(self, request: PagedRequest) -> None:
        del self.holders[request.request_id]
        self.unread.discard(request.request_id)
        self.prefix_cache.release(request.let_go())
