"""An engine whose iteration reads from top to bottom."""

import mlx.core as mx

from tiny_llm_kit.course import task

from .in_flight import Drawn
from .model_runner import ModelRunner
from .request import Request
from .scheduling import plan_step
from .slots import SlotManager

OnItsWay = list[tuple[list[Request], Drawn]]


class ContinuousBatchScheduler:
    on_its_way: OnItsWay = ()

    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        with self.iteration():
            for request in [request for request in self.running.values() if request.all_launched]:
                self.release(request)
            try:
                for move in self.slots.condense():
                    self.runner.move(*move)
            except Exception as error:
                self.abandon(error)
            claims = [request for request in self.running.values() if not request.all_launched]
            plan = plan_step(self.waiting.values(), claims, self.slots.max_slots, self.prefill_step, self.strategy)

            asked: OnItsWay = []
            rows = sorted(plan.decode, key=lambda request: self.slots.slot_of[request.request_id])
            if rows:
                try:
                    asked.append((rows, self.runner.decode(rows)))
                except Exception as error:
                    self.end_all(rows, error)
            for request, start, end in [(chunk.request, chunk.start, chunk.end) for chunk in plan.prefill]:
                if request.state == "waiting":
                    self.admit(request)
                try:
                    self.log_chunk(request, start, end)
                    first = self.runner.prefill(request, start, end)
                    if first is not None:
                        asked.append(([request], first))
                        if request.max_tokens > 1:
                            self.runner.join(request, self.slots.allocate_slot(request.request_id), first)
                except Exception as error:
                    self.end_all([request], error)
            queued = len(self.waiting)

            came_back: list[tuple[Request, int, float]] = []
            try:
                mx.async_eval([drawn for _, drawn in asked])
                for requests, drawn in self.on_its_way:
                    came_back += zip(requests, drawn.tokens.tolist(), drawn.best.tolist(), strict=True)
                self.on_its_way = asked
            except Exception as error:
                came_back = []
                self.abandon(error)

            kept, scrub = 0, False
            for request, token, best in came_back:
                if abs(best) < float("inf"):
                    kept += self.take(request, token)
                else:
                    scrub = True
                    if request.state != "finished":
                        self.end(request, "error", FloatingPointError(f"the largest logit is {best}: NaN or infinite"))
            if scrub:
                self.runner.scrub()
        return self.close_iteration(len(plan.decode) + len(plan.prefill), self.slots.max_slots, queued, kept)

    def end_all(self, requests: list[Request], error: Exception) -> None:
        for request in requests:
            self.end(request, "error", error)

    @task(week=2, day=6, number=4)
    def release(self, request: Request) -> None:
        try:
            slot = self.slots.free_slot(request.request_id)
        except ValueError:
            return
        self.runner.leave(slot)

    def abandon(self, error: BaseException) -> None:
        self.on_its_way = []
        self.runner = ModelRunner(self.runner.model, self.slots.max_slots, self.max_seq_len)
        self.slots = SlotManager(self.slots.max_slots)
        for request in list(self.running.values()):
            self.end(request, "error", error)

    @task(week=2, day=6, number=9)
    def check_integrity(self) -> None:
        self.slots.check_integrity()
        for request_id, slot in self.slots.slot_of.items():
            owner = self.running.get(request_id)
            if owner is None:
                raise RuntimeError(f"slot {slot} belongs to {request_id}, who does not run")
            for cache in self.runner.caches:
                if cache.lengths.get(slot) != owner.offset:
                    raise RuntimeError(f"slot {slot} should hold {owner.offset} tokens: {cache.lengths}")
        for cache in self.runner.caches:
            if set(cache.lengths) != set(self.slots.slot_of.values()):
                raise RuntimeError(f"slots {list(cache.lengths)} hold tokens, and owned are {self.slots.slot_of}")
        if any(request.state == "finished" for request in self.running.values()):
            raise RuntimeError("somebody has finished and still runs")
        if sum(not request.all_launched for request in self.running.values()) > self.slots.max_slots:
            raise RuntimeError("more requests run than there are slots for")
