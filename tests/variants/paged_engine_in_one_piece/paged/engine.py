"""An engine whose step reads from top to bottom, with plain lists of what is on its way."""

import mlx.core as mx

from tiny_llm_kit.course import task

from ..event_log import EventKind
from ..in_flight import Drawn
from ..request import Request
from .block_pool import BlockPool, blocks_for
from .prefix_cache import PrefixCache
from .request import PagedRequest


class Engine:
    on_its_way: tuple[list[PagedRequest], Drawn] | None = None
    timed: list[PagedRequest] = ()

    @task(week=3, day=4, number=6)
    def submit(self, request: Request) -> PagedRequest:
        if not isinstance(request, PagedRequest):
            raise ValueError("this engine serves a PagedRequest")
        room = max(1, min(request.max_tokens, self.max_seq_len - len(request.prompt)))
        needed = blocks_for(len(request.prompt) + room - 1, self.pool.block_size)
        if needed > self.pool.num_blocks:
            raise ValueError(f"it may need {needed} blocks, and the pool has {self.pool.num_blocks}")
        super().submit(request)
        if request.deadline is not None:
            self.timed = [*self.timed, request]
        return request

    @task(week=3, day=4, number=6)
    def step(self) -> list[Request]:
        with self.iteration():
            now = self.clock()
            self.timed = [request for request in self.timed if request.finish_reason is None]
            for request in self.timed:
                if request.deadline <= now:
                    self.end(request, "error", TimeoutError(f"its deadline was {request.deadline}, and it is {now}"))

            running = list(self.running.values())
            plan = self.scheduler.plan(self.waiting.in_turn(), running, self.pool, self.prefix_cache)
            for request in plan.preempted:
                self.preempt(request)
            admitted = [chunk for chunk in plan.chunks if chunk.match is not None]
            for chunk in admitted:
                self.prefix_cache.lock(chunk.match)
            for chunk in admitted:
                self.begin(chunk.request, chunk.match)
            for request in plan.decodes:
                if blocks_for(request.offset + 1, self.pool.block_size) > len(request.blocks):
                    request.blocks.append(self.take_block())

            asked = None
            everyone = plan.decodes + [chunk.request for chunk in plan.chunks]
            try:
                if everyone:
                    asked = self.runner.run(plan)
                    for chunk in plan.chunks:
                        self.log_chunk(chunk.request, chunk.start, chunk.end)
            except Exception as error:
                for request in everyone:
                    self.end(request, "error", error)
            before, self.on_its_way = self.on_its_way, asked
            try:
                mx.async_eval([cache.pools for cache in self.runner.caches], asked[1] if asked else [])
            except Exception as error:
                before = None
                self.abandon(error)
            queued = len(self.waiting)

            read = []
            if before:
                try:
                    read = list(zip(before[0], before[1].tokens.tolist(), mx.isfinite(before[1].best).tolist(), strict=True))
                except Exception as error:
                    self.abandon(error)
            for request, _, _ in read:
                request.in_flight -= 1
            for request, _, sound in read:
                if sound and self.prefix_caching and request.request_id in self.running:
                    self.file(request)
            kept = 0
            for request, token, sound in read:
                if sound:
                    more = self.take(request, token)
                    self.waiting.charge(request, more)
                    kept += more
                elif request.finish_reason is None:
                    self.end(request, "error", FloatingPointError("its logits are NaN or infinite"))
        return self.close_iteration(len(everyone), self.scheduler.max_num_seqs, queued, kept)

    def begin(self, request: PagedRequest, match) -> None:
        size = self.pool.block_size
        self.running[request.request_id] = request
        self.waiting.pop(request.request_id)
        table = list(match.blocks)
        if match.tokens % size or match.tokens < len(table) * size:
            copy = self.take_block()
            self.runner.copy_block(table[-1], copy)
            self.prefix_cache.release([table.pop()])
            table.append(copy)
        while len(table) < blocks_for(len(request.tokens), size):
            table.append(self.take_block())
        request.hold(table, match.tokens)
        if request.preemptions == 0:
            self.event_log.record(EventKind.ADMITTED, request.request_id)
        self.waiting.charge(request, len(request.tokens) - match.tokens)

    def take_block(self) -> int:
        if not self.pool.num_free:
            self.metrics.num_evictions += self.prefix_cache.evict(1)
        return self.pool.allocate(1)[0]

    def file(self, request: PagedRequest) -> None:
        full = len(request.tokens) // self.pool.block_size
        moved = self.prefix_cache.insert(request.tokens[: full * self.pool.block_size], request.blocks[:full])
        request.blocks = [moved.get(block, block) for block in request.blocks]

    @task(week=3, day=4, number=6)
    def preempt(self, request: PagedRequest) -> None:
        if self.running.get(request.request_id) is not request:
            raise ValueError("it does not run")
        self.waiting[request.request_id] = request
        self.running.pop(request.request_id)
        self.prefix_cache.release(request.let_go())
        self.event_log.record(EventKind.PREEMPTED, request.request_id)
        request.preemptions += 1

    @task(week=3, day=4, number=6)
    def abandon(self, error: BaseException) -> None:
        self.on_its_way = None
        self.waiting.mend()
        for request in (*self.running.values(), *self.waiting.values()):
            request.in_flight = 0
            request.let_go()
        self.runner.reset()
        self.pool = BlockPool(self.pool.num_blocks, self.pool.block_size)
        self.prefix_cache = PrefixCache(self.pool)
        super().abandon(error)

    @task(week=3, day=4, number=6)
    def check_integrity(self) -> None:
        tables = [request.blocks for request in self.running.values()]
        self.prefix_cache.check_integrity()
        self.pool.check_integrity([*tables, self.prefix_cache.blocks])
        launched = [request.request_id for request in self.on_its_way[0]] if self.on_its_way else []
        for request in (*self.running.values(), *self.waiting.values()):
            if request.in_flight != launched.count(request.request_id):
                raise RuntimeError("tokens in flight")
        for request in self.waiting.values():
            if request.blocks or request.offset:
                raise RuntimeError("waits with blocks")
        for request in self.running.values():
            if request.finish_reason or len(request.blocks) * self.pool.block_size < request.offset:
                raise RuntimeError("has finished, or has too few blocks")
