"""The engine: the loop in which requests join and leave a running batch.

One iteration is: make room → plan → launch → read what the previous one launched → update the requests. `scheduling` decides,
`model_runner` computes, and `request_book` keeps track of which requests wait, run and have ended.
"""

import time
from collections.abc import Callable

from tiny_llm_kit.course import task

from .in_flight import Drawn, InFlight
from .model import Model
from .model_runner import ModelRunner
from .request import Request
from .request_book import RequestBook
from .scheduling import Fifo, StepPlan, Strategy, plan_step
from .slots import SlotManager


class ContinuousBatchScheduler(RequestBook):
    """Serves requests through one batch: each joins when a slot is free for it and leaves the moment it ends.

    Args:
        model: see `Model`.
        max_batch_size: slots, the rows of a decode step.
        max_seq_len: most tokens a request may have, prompt and answer together.
        prefill_step: most prompt tokens per iteration; a long prompt delays the others by no more than that.
        strategy: chooses the next request to admit; first come, first served by default.
        clock: seconds, for the metrics.
    Raises:
        ValueError: if a size is less than 1.
    """

    def __init__(
        self,
        model: Model,
        max_batch_size: int = 64,
        *,
        max_seq_len: int = 512,
        prefill_step: int = 128,
        strategy: Strategy | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        sizes = {"max_batch_size": max_batch_size, "max_seq_len": max_seq_len, "prefill_step": prefill_step}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: it must be at least 1")
        super().__init__(max_seq_len, model.config.vocab_size, clock)
        self.prefill_step = prefill_step
        self.strategy = strategy or Fifo()
        self.runner = ModelRunner(model, max_batch_size, max_seq_len)
        self.slots = SlotManager(max_batch_size)
        self._in_flight = InFlight()

    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one.

        Raises:
            BaseException: what interrupts an iteration, such as Ctrl-C, ends all running requests with that error and is raised
                again. The waiting ones are still there: keep stepping, or cancel them. See `RequestBook.iteration`.
        """
        with self.iteration():
            claims = self._make_room()
            plan = plan_step(self.waiting.values(), claims, self.slots.max_slots, self.prefill_step, self.strategy)
            launched = self._launch(plan)
            queue_size = len(self.waiting)
            landed, self._in_flight = self._in_flight, launched
            new_tokens = self._update(landed)
        return self.close_iteration(len(plan.decode) + len(plan.prefill), self.slots.max_slots, queue_size, new_tokens)

    @task(week=2, day=6, number=4)
    def release(self, request: Request) -> None:
        """Free the request's slot, if it has one."""
        if request.request_id in self.slots.slot_of:
            self.runner.leave(self.slots.free_slot(request.request_id))

    def abandon(self, error: BaseException) -> None:
        """End all running requests. What the device holds may depend on a computation that failed, so it is made again."""
        self._in_flight = InFlight()
        self.slots = SlotManager(self.slots.max_slots)
        self.runner.reset()
        super().abandon(error)

    @task(week=2, day=6, number=9)
    def check_integrity(self) -> None:
        """Everything must be accounted for, between any two iterations.

        Every slot is free or has one owner. Owners are running requests, and each layer's cache holds exactly their slots, each
        with as many tokens as its owner's `offset`. No running request has finished. No more requests have a slot or still need
        one (all running ones do, unless all their tokens have been launched) than there are slots.

        Raises:
            RuntimeError: saying what is wrong.
        """
        self.slots.check_integrity()
        owners = set(self.slots.slot_of)
        if not owners <= set(self.running):
            raise RuntimeError(f"requests {owners - set(self.running)} own slots and do not run")
        lengths = {self.slots.slot_of[i]: self.running[i].offset for i in owners}
        for layer, cache in enumerate(self.runner.caches):
            if cache.lengths != lengths:
                raise RuntimeError(f"layer {layer} holds slots {cache.lengths}, the requests in them need {lengths}")
        if gone := [request.request_id for request in self.running.values() if request.state == "finished"]:
            raise RuntimeError(f"requests {gone} have finished and still run")
        claims = [request for request in self.running.values() if not request.all_launched]
        if len(claims) > self.slots.max_slots:
            raise RuntimeError(f"{len(claims)} requests have or need one of {self.slots.max_slots} slots")

    @task(week=2, day=6, number=4)
    def _make_room(self) -> list[Request]:
        """Free the slots of requests whose last token is already on its way, and close the gaps.

        Returns:
            The requests that have a slot or need one: all other running ones.
        """
        claims = []
        for request in self.running.values():
            if request.all_launched:
                self.release(request)
            else:
                claims.append(request)
        try:
            for source, target in self.slots.condense():
                self.runner.move(source, target)
            return claims
        except Exception as error:  # a move waits for its row, so a failure of the device may show up here first
            self.abandon(error)
            return []

    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> InFlight:
        """Launch the decode call and then the chunks of a plan, admit and join the requests concerned, and start the device.

        Returns:
            What is on its way now; nothing, if the device could not be started.
        """
        launched = InFlight()
        if plan.decode:
            slot_of = self.slots.slot_of
            requests = sorted(plan.decode, key=lambda request: slot_of[request.request_id])
            with self.failures_end(requests):
                launched.add(requests, self.runner.decode(requests))
        for chunk in plan.prefill:
            if chunk.request.request_id in self.waiting:
                self.admit(chunk.request)
            with self.failures_end([chunk.request]):
                first_token = self.runner.prefill(chunk.request, chunk.start, chunk.end)
                self.log_chunk(chunk.request, chunk.start, chunk.end)
                if first_token is not None:
                    launched.add([chunk.request], first_token)
                    self._join(chunk.request, first_token)
        try:
            launched.start()
            return launched
        except Exception as error:
            self.abandon(error)
            return InFlight()

    @task(week=2, day=6, number=4)
    def _join(self, request: Request, first_token: Drawn) -> None:
        """Give a prefilled request its row of the batch, unless its first token is all it wants."""
        if not request.all_launched:
            slot = self.slots.allocate_slot(request.request_id)
            assert slot is not None, "a request is admitted only if a slot will be free for it"
            self.runner.join(request, slot, first_token)

    @task(week=2, day=6, number=4)
    def _update(self, landed: InFlight) -> int:
        """Read what was launched, and hand the tokens to their requests; return how many were kept."""
        try:
            tokens = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        kept, unsound = 0, []
        for request, token, sound in tokens:
            if sound:
                kept += self.take(request, token)
            else:
                unsound.append(request)
        if unsound:
            for request in unsound:
                if request.finish_reason is None:  # otherwise no request needs this row
                    self.end(request, "error", FloatingPointError("the model's logits are NaN or infinite: no token follows"))
            self.runner.scrub()
        return kept
