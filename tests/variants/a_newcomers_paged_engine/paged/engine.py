from collections import Counter
from heapq import heappop, heappush

from tiny_llm_kit.course import task

from ..event_log import EventKind
from ..in_flight import InFlight
from ..request import Request
from .block_pool import BlockPool, blocks_for
from .prefix_cache import Match, PrefixCache
from .request import PagedRequest
from .scheduler import MixedPlan
from .streams import StreamingBook


class Engine(StreamingBook):
    @task(week=3, day=4, number=6)
    def submit(self, request: Request) -> PagedRequest:
        if not isinstance(request, PagedRequest):
            raise ValueError(f"{type(request).__name__} can't be preempted: submit a PagedRequest to this engine")
        computed = min(len(request.prompt) + request.max_tokens, self.max_seq_len) - 1  # the last token is never computed on
        needed = blocks_for(computed, self.pool.block_size)
        if needed > self.pool.num_blocks:
            raise ValueError(
                f"prompt and answer could need {needed} blocks, and the pool has {self.pool.num_blocks}: ask for a shorter"
                " answer, or make the pool larger"
            )
        super().submit(request)
        if request.deadline is not None:
            heappush(self._deadlines, (request.deadline, request.request_id, request))
        return request

    @task(week=3, day=4, number=6)
    def _end_late(self) -> None:
        now = self.clock()
        while self._deadlines and self._deadlines[0][0] <= now:
            deadline, _, request = self._deadlines[0]
            if request.finish_reason is None:
                self.end(request, "error", TimeoutError(f"the deadline, {deadline}, has passed: it is {now}"))
            heappop(self._deadlines)

    @task(week=3, day=4, number=6)
    def _launch(self, plan: MixedPlan) -> InFlight:
        launched = InFlight()
        try:
            self._assign_blocks(plan)
        except Exception as error:  # copying a block waits for the device
            self.abandon(error)
            return InFlight()
        if plan.tokens:
            with self.failures_end([*plan.decodes, *(chunk.request for chunk in plan.chunks)]):
                asked = self.runner.run(plan)
                for chunk in plan.chunks:
                    self.log_chunk(chunk.request, chunk.start, chunk.end)
                if asked is not None:
                    launched.add(*asked)
        try:
            launched.start()
            self.runner.start()
        except Exception as error:
            self.abandon(error)
            return InFlight()
        return launched

    @task(week=3, day=4, number=6)
    def _assign_blocks(self, plan: MixedPlan) -> None:
        for request in plan.preempted:
            self.preempt(request)
        admissions = [(chunk.request, chunk.match) for chunk in plan.chunks if chunk.match is not None]
        for _, match in admissions:
            self.prefix_cache.lock(match)
        for request in plan.decodes:
            self._grow(request, request.offset + 1)
        for request, match in admissions:
            self._admit(request, match)

    @task(week=3, day=4, number=6)
    def _admit(self, request: PagedRequest, match: Match) -> None:
        self.running[request.request_id] = request
        del self.waiting[request.request_id]
        request.hold(match.blocks, match.tokens)
        request.published = match.tokens // self.pool.block_size
        if not request.preemptions:
            self.event_log.record(EventKind.ADMITTED, request.request_id)
        tokens = len(request.prompt) + len(request.generated_tokens)
        self.waiting.charge(request, tokens - match.tokens)
        if match.tokens % self.pool.block_size:
            self._copy_last_block(request)
        self._grow(request, tokens)

    @task(week=3, day=4, number=6)
    def _copy_last_block(self, request: PagedRequest) -> None:
        original = request.blocks[-1]
        (request.blocks[-1],) = self._allocate(1)
        self.runner.copy_block(original, request.blocks[-1])
        self.prefix_cache.release([original])

    @task(week=3, day=4, number=6)
    def _allocate(self, count: int) -> list[int]:
        if count > self.pool.num_free:
            self.metrics.num_evictions += self.prefix_cache.evict(count - self.pool.num_free)
        blocks = self.pool.allocate(count)
        assert blocks is not None, "the plan has counted wrongly"
        return blocks

    @task(week=3, day=4, number=6)
    def _update(self, landed: InFlight) -> int:
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
                self._publish(request)
                if self.take(request, token):
                    self.waiting.charge(request, 1)
                    kept += 1
            elif request.finish_reason is None:
                self.end(request, "error", FloatingPointError("the model's logits are NaN or infinite: no token follows"))
        return kept

    @task(week=3, day=4, number=6)
    def _publish(self, request: PagedRequest) -> None:
        size = self.pool.block_size
        full = (len(request.prompt) + len(request.generated_tokens)) // size
        if not self.prefix_caching or not request.blocks or full <= request.published:
            return
        duplicates = self.prefix_cache.insert(request.tokens[: full * size], request.blocks[:full])
        request.blocks = [duplicates.get(block, block) for block in request.blocks]
        request.published = full

    @task(week=3, day=4, number=6)
    def preempt(self, request: PagedRequest) -> None:
        if self.running.get(request.request_id) is not request:
            raise ValueError(f"request {request.request_id} does not run, so it can't be preempted")
        self.waiting[request.request_id] = request
        del self.running[request.request_id]
        self.release(request)
        self.event_log.record(EventKind.PREEMPTED, request.request_id)
        request.preemptions += 1

    @task(week=3, day=4, number=6)
    def release(self, request: Request) -> None:
        if isinstance(request, PagedRequest):
            self.prefix_cache.release(request.let_go())

    @task(week=3, day=4, number=6)
    def abandon(self, error: BaseException) -> None:
        self._in_flight = InFlight()
        self.waiting.mend()
        for request in [*self.waiting.values(), *self._running]:
            request.let_go()
            request.in_flight = 0
        self.pool = BlockPool(self.pool.num_blocks, self.pool.block_size)
        self.prefix_cache = PrefixCache(self.pool)
        self.runner.reset()
        super().abandon(error)

    @task(week=3, day=4, number=6)
    def check_integrity(self) -> None:
        self.pool.check_integrity([*(request.blocks for request in self._running), self.prefix_cache.blocks])
        self.prefix_cache.check_integrity()
        on_their_way = Counter(request.request_id for request in self._in_flight.requests)
        for request in self._running:
            if request.finish_reason is not None:
                raise RuntimeError(f"request {request.request_id} has finished and still runs")
            if not request.blocks or request.offset > len(request.blocks) * self.pool.block_size:
                raise RuntimeError(
                    f"request {request.request_id} runs with {request.offset} tokens computed, in {len(request.blocks)} blocks"
                )
        for request in self.waiting.values():
            if request.blocks or request.offset:
                raise RuntimeError(f"request {request.request_id} waits, and holds blocks {request.blocks}")
        for request in [*self._running, *self.waiting.values()]:
            if request.in_flight != on_their_way[request.request_id]:
                raise RuntimeError(
                    f"request {request.request_id} has in_flight {request.in_flight}, and {on_their_way[request.request_id]}"
                    " tokens are on their way"
                )
