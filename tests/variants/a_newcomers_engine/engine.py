from tiny_llm_kit.course import task

from .in_flight import Drawn, InFlight
from .request import Request
from .request_book import RequestBook
from .scheduling import StepPlan, plan_step


class ContinuousBatchScheduler(RequestBook):
    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        max_slots = self.slots.max_slots
        with self.iteration():
            running = self._make_room()
            plan = plan_step(self.waiting.values(), running, max_slots, self.prefill_step, self.strategy)
            active = len(plan.decode) + len(plan.prefill)
            queued = len(self.waiting) - sum(chunk.request.request_id in self.waiting for chunk in plan.prefill)
            launched = self._launch(plan)
            # A launch that failed has forgotten what was on its way before: nobody is left to whom it belongs.
            landed, self._in_flight = self._in_flight, launched
            new_tokens = self._update(landed)
        return self.close_iteration(active, max_slots, queued, new_tokens)

    @task(week=2, day=6, number=9)
    def check_integrity(self) -> None:
        self.slots.check_integrity()
        owners = self.slots.slot_of
        strangers = sorted(owners.keys() - self.running.keys())
        if strangers:
            raise RuntimeError(f"requests {strangers} own slots and do not run")
        expected = {slot: self.running[owner].offset for owner, slot in owners.items()}
        for layer, cache in enumerate(self.runner.caches):
            if dict(cache.lengths) != expected:
                raise RuntimeError(
                    f"layer {layer} holds {dict(cache.lengths)} (slot: tokens), and the owners' offsets are {expected}"
                )
        ghosts = [request.request_id for request in self.running.values() if request.finish_reason is not None]
        if ghosts:
            raise RuntimeError(f"requests {ghosts} have finished and still run")
        claims = sum(not request.all_launched for request in self.running.values())
        if claims > self.slots.max_slots:
            raise RuntimeError(f"{claims} requests have a slot or need one, and there are {self.slots.max_slots}")

    @task(week=2, day=6, number=4)
    def _make_room(self) -> list[Request]:
        try:
            for request in self.running.values():
                if request.all_launched:
                    self.release(request)
            for source, target in self.slots.condense():
                self.runner.move(source, target)
        except Exception as error:
            self.abandon(error)
        return [request for request in self.running.values() if not request.all_launched]

    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> InFlight:
        flight = InFlight()
        if plan.decode:
            rows = sorted(plan.decode, key=lambda request: self.slots.slot_of[request.request_id])
            with self.failures_end(rows):
                flight.add(rows, self.runner.decode(rows))
        for chunk in plan.prefill:
            request = chunk.request
            if request.request_id in self.waiting:
                self.admit(request)
            first_token = None
            with self.failures_end([request]):
                first_token = self.runner.prefill(request, chunk.start, chunk.end)
                self.log_chunk(request, chunk.start, chunk.end)
            if first_token is not None:
                flight.add([request], first_token)
                self._join(request, first_token)
        try:
            flight.start()
        except Exception as error:
            self.abandon(error)
            return InFlight()
        return flight

    @task(week=2, day=6, number=4)
    def _join(self, request: Request, first_token: Drawn) -> None:
        if request.all_launched:
            return
        slot = self.slots.allocate_slot(request.request_id)
        if slot is None:
            raise RuntimeError(f"request {request.request_id} was planned, but no slot is free for it")
        self.runner.join(request, slot, first_token)

    @task(week=2, day=6, number=4)
    def _update(self, landed: InFlight) -> int:
        try:
            tokens = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        kept, all_sound = 0, True
        for request, token, sound in tokens:
            if sound:
                kept += self.take(request, token)
                continue
            all_sound = False
            if request.finish_reason is None:
                self.end(request, "error", ArithmeticError("the model's logits are NaN or infinite"))
        if not all_sound:
            self.runner.scrub()
        return kept
