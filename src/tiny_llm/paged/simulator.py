"""A discrete-event simulation of the paged engine, whose own scheduler, queue, pool and prefix cache decide.

See `measure.simulator`.
"""

import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import islice
from math import inf
from typing import cast

from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import EventKind
from ..measure.cost_model import Call, CostModel
from ..measure.simulated_time import Arrivals, SimulatedDevice, Wanted
from ..measure.simulator import Readers
from ..measure.step_work import chunk_call, decode_call, mixed_call
from ..request import Request
from ..request_book import RequestBook
from .block_pool import BlockPool, blocks_for
from .fair_queue import FairQueue
from .prefix_cache import Match, PrefixCache
from .scheduler import MixedPlan, Scheduler
from .simulated_request import PagedLaunch, SimulatedRequest


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
    """Simulate `Engine` under an open loop; for the arguments see there and `simulate_slots`.

    The tokens of an answer are unlike any others: a later prompt never finds them in the prefix cache.

    Raises:
        ValueError: as `Engine` and its `submit`, or if arrivals do not ascend.
    """
    device = SimulatedDevice(cost)
    coming = Arrivals(arrivals, wanted, SimulatedRequest)
    scheduler = Scheduler(max_num_seqs, max_num_batched_tokens, watermark)
    engine = SimulatedEngine(device, scheduler, BlockPool(num_blocks, block_size), prefix_caching, readers)
    while engine.has_work or coming.time < inf:
        if not engine.has_work:
            device.wait_until(coming.time)
        coming.submit_until(device.now, engine)
        engine.iterate()
        if engine.calm:
            engine.coast(coming)


class SimulatedEngine(RequestBook):
    """The engine without its model. `rows` are the running requests.

    The prefix cache gets an answer's blocks when the request loses them, and not whenever one is full: no other request could
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
        self.rows: dict[int, SimulatedRequest] = {}
        self.in_flight = PagedLaunch()
        self.calm = False  # whether the next plan would be the same

    @property
    def has_work(self) -> bool:
        """Whether any request waits or runs."""
        return bool(self.queue or self.rows)

    def submit(self, request: Request) -> Request:
        """Queue a new request; ValueError also if it could need more blocks than the pool has."""
        longest = len(request.prompt) + request.max_tokens - 1  # the last token is never an input
        if (needed := blocks_for(longest, self.pool.block_size)) > self.pool.num_blocks:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens and an answer of {request.max_tokens} need {needed} blocks, and the"
                f" pool has {self.pool.num_blocks}: raise num_blocks"
            )
        return super().submit(request)

    def iterate(self) -> None:
        """Plan, launch, and read what the iteration before launched."""
        plan = self.scheduler.plan(self.queue.in_turn(), list(self.rows.values()), self.pool, self.prefix_cache)
        for request in plan.preempted:
            self._preempt(self.rows[request.request_id])
        launched = self._launch(plan)
        landed, self.in_flight = self.in_flight, launched
        self.device.read(landed, self.event_log)
        for row in landed.completed:
            self._publish(row, row.known)
        for row in landed.ended:
            self._publish(row, row.last_offset)
            self._let_go(row)
        news = plan.preempted or landed.completed or landed.ended or launched.completed or launched.ended
        self.calm = not news and len(plan.decodes) == len(self.rows)
        active = len(plan.decodes) + len(plan.chunks)
        self.event_log.close_step(active, self.scheduler.max_num_seqs, len(self.queue), landed.tokens)

    def coast(self, coming: Arrivals) -> None:
        """Repeat the last plan, in which every request decoded, for as long as it would stay the same.

        That is until a request's last token is launched, a request comes that can be admitted at once, or there are fewer
        blocks left than rows that need one.
        """
        rows, size = list(self.rows.values()), self.pool.block_size
        most = min([row.landmark - row.offset for row in rows]) - 1
        longest = max([row.offset for row in rows])
        growing = Counter([row.offset % size for row in rows])  # at 0 a row needs a block now, at 1 it did one step ago
        free = self.pool.num_free + self.prefix_cache.evictable
        open_seat = not self.queue and len(rows) < self.scheduler.max_num_seqs
        steps = 0
        while steps < most and growing[-steps % size] <= free:
            if coming.time <= self.device.now:
                if open_seat:
                    break
                coming.submit_until(self.device.now, self)
            free -= growing[-steps % size]
            steps += 1
            landed, self.in_flight = self.in_flight, PagedLaunch(len(rows))
            self.device.launch(self.in_flight, [decode_call(len(rows), longest + steps, size)])
            self.device.read(landed, self.event_log)
            self.event_log.close_step(len(rows), self.scheduler.max_num_seqs, len(self.queue), len(rows))
        for row in rows:
            row.offset += steps
        self._grow(rows)

    def _launch(self, plan: MixedPlan) -> PagedLaunch:
        """Move blocks, in the engine's order, and launch the one call of a plan."""
        launched, calls = PagedLaunch(len(plan.decodes)), []
        for chunk in plan.chunks:
            if chunk.match is not None:
                self.prefix_cache.lock(chunk.match)
        if plan.decodes:
            calls.append(self._decode(cast(list[SimulatedRequest], plan.decodes), launched))
        for chunk in plan.chunks:
            if chunk.match is not None:
                self._admit(cast(SimulatedRequest, chunk.request), chunk.match)
        for chunk in plan.chunks:
            calls.append(self._compute(self.rows[chunk.request.request_id], chunk.start, chunk.end, launched))
        self.device.launch(launched, [mixed_call(calls)] if calls else [])
        return launched

    def _decode(self, rows: Sequence[SimulatedRequest], launched: PagedLaunch) -> Call:
        for row in rows:
            row.offset += 1
            if row.offset == row.landmark:
                self._reach_landmark(row, launched)
        self._grow(rows)
        return decode_call(len(rows), max([row.offset for row in rows]), self.pool.block_size)

    def _compute(self, row: SimulatedRequest, start: int, end: int, launched: PagedLaunch) -> Call:
        self.log_chunk(row, start, end)
        row.offset = end
        row.to_compute -= end - start
        if complete := end == row.landmark:
            launched.tokens += 1
            self._reach_landmark(row, launched)
        return chunk_call(start, end, complete, self.pool.block_size)

    def _reach_landmark(self, row: SimulatedRequest, launched: PagedLaunch) -> None:
        """Everything known at admission has been computed, or the last token is asked for, or both."""
        if row.offset == row.known:
            row.to_compute, row.landmark = 1, row.last_offset
            launched.completed.append(row)
            if not row.generated_tokens:
                launched.first_token(row)
        if row.offset == row.last_offset:
            row.all_launched = True
            launched.ended.append(row)
            launched.last_token(row)

    def _admit(self, request: SimulatedRequest, match: Match) -> None:
        """Let a request run, with the blocks of its match, which are locked, and others for all that is known of it."""
        del self.queue[request.request_id]
        self.rows[request.request_id] = request
        request.hold(list(match.blocks), match.tokens)
        request.to_compute, request.landmark = request.known - match.tokens, request.known
        request.published = match.tokens // self.pool.block_size
        if request.published < len(match.blocks):  # others read the last block, and this one will write into it
            request.blocks[-1:] = self._allocate(1)
            self.prefix_cache.release(match.blocks[-1:])
        request.blocks += self._allocate(blocks_for(request.known, self.pool.block_size) - len(request.blocks))
        if not request.preemptions:
            self.event_log.record(EventKind.ADMITTED, request.request_id)

    def _preempt(self, row: SimulatedRequest) -> None:
        """Take a row's blocks away. If a token is in flight for it, it is back before the row is looked at again."""
        if row in self.in_flight.completed:
            self.in_flight.completed.remove(row)
        elif row.offset > row.known:
            self._publish(row, row.offset - 1)
        if row.offset >= row.known:
            row.generated_tokens = row.first_tokens(row.offset + 1)[len(row.prompt) :]
        self._let_go(row)
        self.queue[row.request_id] = row
        self.event_log.record(EventKind.PREEMPTED, row.request_id)
        row.preemptions += 1

    def _let_go(self, row: SimulatedRequest) -> None:
        del self.rows[row.request_id]
        self.prefix_cache.release(row.let_go())

    def _publish(self, row: SimulatedRequest, computed: int) -> None:
        """File the full blocks of this many tokens in the prefix cache."""
        full = computed // self.pool.block_size
        if self.prefix_caching and full > row.published:
            duplicates = self.prefix_cache.insert(row.first_tokens(full * self.pool.block_size), row.blocks[:full])
            row.blocks = [duplicates.get(block, block) for block in row.blocks]
            row.published = full

    def _grow(self, rows: Sequence[SimulatedRequest]) -> None:
        """Make room in the tables for all that is computed."""
        size = self.pool.block_size
        short = [(row, blocks_for(row.offset, size) - len(row.blocks)) for row in rows if row.offset > len(row.blocks) * size]
        blocks = iter(self._allocate(sum(count for _, count in short)))
        for row, count in short:
            row.blocks += islice(blocks, count)

    def _allocate(self, count: int) -> list[int]:
        if count > self.pool.num_free:
            self.prefix_cache.evict(count - self.pool.num_free)
        blocks = self.pool.allocate(count)
        assert blocks is not None, "a plan gives away only what is there"
        return blocks
