"""The engine: the loop in which requests join and leave a running batch.

One iteration is: plan → launch → read what the iteration before computed → update the requests. Deciding is in
`scheduling`, computing in `model_runner`; this file moves requests between waiting, running and finished.
"""

import time
from collections.abc import Callable, Sequence

import mlx.core as mx

from tiny_llm_kit.course import task

from .launch import Launch
from .metrics import BatchingMetrics, BatchState, Event, EventKind
from .model import Model
from .model_runner import ModelRunner
from .request import Request
from .scheduling import Fifo, StepPlan, Strategy, plan_step
from .slots import SlotManager


class ContinuousBatchScheduler:
    """Serves requests through one batch: each joins when a slot is free for it and leaves the moment it ends.

    Requests may be submitted and cancelled at any time between steps, also from `on_update`. Call it from one thread.

    Args:
        model: see `Model`.
        max_batch_size: slots, the rows of a decode step.
        max_seq_len: most tokens a request may have, prompt and answer together.
        prefill_step: prompt tokens an iteration computes at most; a long prompt stalls the others by no more than that.
        strategy: who is admitted next; first come, first served by default.
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
        self.max_seq_len = max_seq_len
        self.prefill_step = prefill_step
        self.strategy = strategy or Fifo()
        self.clock = clock
        self.runner = ModelRunner(model, max_batch_size, max_seq_len)
        self.slots = SlotManager(max_batch_size)
        self.metrics = BatchingMetrics()
        self.waiting: list[Request] = []
        self.running: dict[int, Request] = {}
        self._open: set[int] = set()
        self._in_flight = Launch()
        self._events: list[Event] = []
        self._ended: list[Request] = []

    @property
    def has_work(self) -> bool:
        """Whether anything waits, runs, is on the device, or has ended and not been returned by `step` yet."""
        return bool(self._open or self._in_flight.requests or self._ended)

    @task(week=2, day=6, number=4)
    def submit(self, request: Request) -> Request:
        """Queue a new request; it is limited to what `max_seq_len` leaves for its answer.

        Raises:
            ValueError: if the prompt is empty or leaves no room for an answer, or the request is not new. Nothing else is
                touched.
        """
        if not request.prompt:
            raise ValueError("the prompt is empty: a model needs at least one token to continue")
        if request.state != "waiting" or request in self.waiting:
            raise ValueError(f"request {request.request_id} is {request.state} already: submit a new Request")
        room = self.max_seq_len - len(request.prompt)
        if room < 1:
            raise ValueError(
                f"the prompt has {len(request.prompt)} tokens and max_seq_len is {self.max_seq_len}, which leaves no room"
                " for an answer: shorten the prompt or raise max_seq_len"
            )
        request.max_tokens = min(request.max_tokens, room)
        self.waiting.append(request)
        self._open.add(request.request_id)
        self._log(EventKind.ARRIVED, request)
        return request

    @task(week=2, day=6, number=4)
    def cancel(self, request: Request) -> None:
        """End a request in whatever state it is; its slot and memory are free at once.

        One that has finished stays as it is, and one that was refused just ends: a client that hangs up need not know.
        """
        if request.finish_reason is None:
            self._end(request, "cancelled")

    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one."""
        self._make_room()
        running = list(self.running.values())
        plan = plan_step(self.waiting, running, self.slots.max_slots, self.prefill_step, self.strategy)
        launch = self._launch(plan)
        busy, queued = len(self.running), len(self.waiting)
        landed, self._in_flight = self._in_flight, launch
        new_tokens = self._update(landed)
        self.metrics.update(BatchState(self.clock(), busy, self.slots.max_slots, queued, new_tokens, events=self._events))
        self._events = []
        ended, self._ended = self._ended, []
        return ended

    @task(week=2, day=6, number=4)
    def run(self) -> list[Request]:
        """Step until there is no more work; return the requests in the order in which they ended."""
        ended: list[Request] = []
        while self.has_work:
            ended.extend(self.step())
        return ended

    @task(week=2, day=6, number=9)
    def check_integrity(self) -> None:
        """Everything must be accounted for: every slot has one owner or none, and owners are running requests.

        Raises:
            RuntimeError: saying what is not.
        """
        self.slots.check_integrity()
        owners = set(self.slots.slot_of)
        if not owners <= set(self.running):
            raise RuntimeError(f"requests {owners - set(self.running)} own slots and do not run")
        lengths = {self.slots.slot_of[i]: self.running[i].offset for i in owners}
        for layer, cache in enumerate(self.runner.caches):
            if cache.lengths != lengths:
                raise RuntimeError(f"layer {layer} holds slots {cache.lengths}, the requests in them need {lengths}")
        gone = [request.request_id for request in self.running.values() if request.state == "finished"]
        if gone or len(self.running) > self.slots.max_slots:
            raise RuntimeError(f"{len(self.running)} run in {self.slots.max_slots} slots; finished among them: {gone}")

    @task(week=2, day=6, number=4)
    def _make_room(self) -> None:
        """Free the slots of requests whose last token is on its way already, and close the gaps."""
        for request in [request for request in self.running.values() if request.all_launched]:
            self._release(request)
        for source, target in self.slots.condense():
            self.runner.move(source, target)

    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> Launch:
        launch = Launch()
        if plan.decode:
            slot_of = self.slots.slot_of
            requests = sorted(plan.decode, key=lambda request: slot_of[request.request_id])
            try:
                launch.add(requests, self.runner.decode(requests))
            except Exception as error:
                self._fail(requests, error)
        for chunk in plan.prefill:
            self._admit(chunk.request)
            try:
                first_token = self.runner.prefill(chunk.request, chunk.start, chunk.end)
                if first_token is not None:
                    launch.add([chunk.request], first_token)
                    self._join(chunk.request, first_token)
            except Exception as error:
                self._fail([chunk.request], error)
        try:
            launch.start()
        except Exception as error:
            self._fail(launch.requests, error)
            return Launch()
        return launch

    @task(week=2, day=6, number=4)
    def _admit(self, request: Request) -> None:
        if request.request_id not in self.running:
            self.waiting.remove(request)
            self.running[request.request_id] = request
            self._log(EventKind.ADMITTED, request)

    @task(week=2, day=6, number=4)
    def _join(self, request: Request, first_token: mx.array) -> None:
        if request.all_launched:
            self._release(request)
            return
        slot = self.slots.allocate_slot(request.request_id)
        assert slot is not None, "a request is admitted only if a slot will be free for it"
        self.runner.join(request, slot, first_token)

    @task(week=2, day=6, number=4)
    def _update(self, landed: Launch) -> int:
        """Hand the tokens of the last iteration to their requests; return how many were taken."""
        try:
            tokens = landed.read()
        except Exception as error:
            self._fail(landed.requests, error)
            return 0
        taken = 0
        for request, token in tokens:
            if request.finish_reason is not None:
                continue
            if not request.generated_tokens:
                self._log(EventKind.FIRST_TOKEN, request)
            try:
                taken += request.accept(token)
            except Exception as error:
                taken += token not in request.eos_token_ids  # it was kept before `on_update` raised
                request.finish("error", error=error)
            if request.finish_reason is not None:
                self._retire(request)
        return taken

    @task(week=2, day=6, number=4)
    def _end(self, request: Request, reason: str, error: Exception | None = None) -> None:
        try:
            request.finish(reason, error=error)
        except Exception as raised:
            request.finish("error", error=raised)
        self._retire(request)

    @task(week=2, day=6, number=4)
    def _fail(self, requests: Sequence[Request], error: Exception) -> None:
        """What the device was asked for these requests has failed: they end, the others go on."""
        for request in requests:
            if request.finish_reason is None:
                self._end(request, "error", error)

    @task(week=2, day=6, number=4)
    def _retire(self, request: Request) -> None:
        if request.request_id not in self._open:  # refused at the door, or retired by a cancel from its own `on_update`
            return
        self._open.remove(request.request_id)
        if request in self.waiting:
            self.waiting.remove(request)
        self._release(request)
        self._log(EventKind.FINISHED, request, len(request.generated_tokens))
        self._ended.append(request)

    @task(week=2, day=6, number=4)
    def _release(self, request: Request) -> None:
        """Give back what a request holds: its place among the running, its slot, its own cache."""
        self.running.pop(request.request_id, None)
        request.kv_cache = None
        if request.request_id in self.slots.slot_of:
            self.runner.leave(self.slots.free_slot(request.request_id))

    def _log(self, kind: EventKind, request: Request, tokens: int = 0) -> None:
        self._events.append(Event(self.clock(), kind, request.request_id, tokens))
