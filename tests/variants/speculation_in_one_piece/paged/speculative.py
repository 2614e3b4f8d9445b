"""A step is one method. Tables grow when everybody has drafted, and drafts were cut: until then room is only promised."""

from dataclasses import replace

from tiny_llm_kit.course import task

from ..in_flight import InFlight
from ..request import Request
from .engine import Engine
from .request import PagedRequest
from .scheduler import MixedPlan


class SpeculativeEngine(Engine):
    @task(week=3, day=5, number=5)
    def step(self) -> list[Request]:
        with self.iteration():
            self._end_late()
            plan = self.scheduler.plan(self.waiting.in_turn(), self._running, self.pool, self.prefix_cache)
            launched = InFlight()
            try:
                self._assign_blocks(plan)
                self._guess(plan)
                decodes = [request for request in plan.decodes if request.finish_reason is None]
                working = decodes + [chunk.request for chunk in plan.chunks]
                with self.failures_end(working):
                    if working and (step := self.runner.run(replace(plan, decodes=decodes), self._drafts)):
                        launched.add(*step)
                    for chunk in plan.chunks:
                        self.log_chunk(chunk.request, chunk.start, chunk.end)
                launched.start()
                self.runner.start()
                places = launched.read()
            except Exception as error:
                self.abandon(error)
                places = []
            queue_size = len(self.waiting)
            drawn: dict[PagedRequest, list[tuple[int, bool]]] = {}
            for request, token, sound in places:
                drawn.setdefault(request, []).append((token, sound))
            for request, own in drawn.items():
                self._keep(request, own)
            kept = 0
            for request, own in drawn.items():
                first = len(request.generated_tokens)
                for token, sound in own:
                    if sound and request.finish_reason is None:
                        self._publish(request)
                        self.take(request, token)
                    elif request.finish_reason is None:
                        self.end(request, "error", FloatingPointError("logits of a place that counts are not finite"))
                given = len(request.generated_tokens) - first
                self.waiting.charge(request, given)
                kept += given
        active = len(plan.decodes) + len(plan.chunks)
        return self.close_iteration(active, self.scheduler.max_num_seqs, queue_size, kept)

    def _guess(self, plan: MixedPlan) -> None:
        size, promised = self.pool.block_size, 0
        budget = self.scheduler.max_num_batched_tokens - plan.tokens
        self._drafts, self._cut = {}, {}
        for request in plan.decodes:
            with self.failures_end([request]):
                if request.request_id not in self._speculations:
                    self._speculations[request.request_id] = self.drafter(), self.adaptive and self.adaptive()
                drafter, adaptive = self._speculations[request.request_id]
                left = request.max_tokens - len(request.generated_tokens) - 1
                room = size * (len(request.blocks) + self.pool.num_free - promised) - request.offset - 1
                most = min(budget, room, left, adaptive.length(len(plan.decodes)) if adaptive else self.num_speculative_tokens)
                proposed = list(drafter.propose(request.tokens, most)) if most > 0 else []
                if not all(0 <= token < self.vocab_size for token in proposed) or len(proposed) > max(most, 0):
                    raise ValueError(f"of {most} drafts, {proposed} came, and tokens go from 0 to below {self.vocab_size}")
                self._drafts[request.request_id] = proposed
                budget -= len(proposed)
                promised += max(0, blocks_for(request.offset + 1 + len(proposed), size) - len(request.blocks))
        if self.adaptive:
            whole = dict(self._drafts)
            lengths = whole_tiles(plan.tokens, [len(proposed) for proposed in whole.values()])
            for (owner, proposed), length in zip(whole.items(), lengths, strict=True):
                self._drafts[owner], self._cut[owner] = proposed[:length], proposed[length:]
        for request in plan.decodes:
            if request.finish_reason is None:
                self._grow(request, request.offset + 1 + len(self._drafts[request.request_id]))

    def _keep(self, request: PagedRequest, own: list[tuple[int, bool]]) -> None:
        """Leave those of a request's drawn tokens that count, and let it hold what they need."""
        drafts = self._drafts.get(request.request_id, [])
        del own[len(matches([token for token, _ in own], drafts)) :]
        right, cut = len(own) - 1, self._cut.get(request.request_id)
        self.metrics.spec_decode_num_draft_tokens += len(drafts)
        self.metrics.spec_decode_num_accepted_tokens += right
        self.metrics.computed_tokens += len(drafts)
        if cut and right == len(drafts):
            drafts = [*drafts, cut[0]]
            right += own[-1][0] == cut[0]
        _, adaptive = self._speculations.get(request.request_id, (None, None))
        if adaptive:
            adaptive.update(len(drafts), right)
        request.offset = len(request.tokens) + len(own) - 1
        enough = blocks_for(request.offset, self.pool.block_size)
        request.blocks, surplus = request.blocks[:enough], request.blocks[enough:]
        self.prefix_cache.release(surplus)

    @task(week=3, day=5, number=5)
    def release(self, request: Request) -> None:
        super().release(request)
        if request.request_id in self._speculations:
            del self._speculations[request.request_id]

    @task(week=3, day=5, number=5)
    def check_integrity(self) -> None:
        for owner in self._speculations:
            if owner not in self.running:
                raise RuntimeError(f"a drafter is kept for request {owner}, which does not run")
        for request in self.running.values():
            spare = len(request.blocks) * self.pool.block_size - len(request.tokens)
            if spare >= self.pool.block_size:
                raise RuntimeError(f"request {request.request_id} could hold {spare} tokens more than it has")
        super().check_integrity()
