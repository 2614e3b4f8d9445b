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
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def cancel(self, request: Request) -> None:
        """End a request in whatever state it is; its slot and memory are free at once.

        One that has finished stays as it is, and one that was refused just ends: a client that hangs up need not know.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def run(self) -> list[Request]:
        """Step until there is no more work; return the requests in the order in which they ended."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=9)
    def check_integrity(self) -> None:
        """Everything must be accounted for: every slot has one owner or none, and owners are running requests.

        Raises:
            RuntimeError: saying what is not.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _make_room(self) -> None:
        """Free the slots of requests whose last token is on its way already, and close the gaps."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> Launch:
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _admit(self, request: Request) -> None:
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _join(self, request: Request, first_token: mx.array) -> None:
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _update(self, landed: Launch) -> int:
        """Hand the tokens of the last iteration to their requests; return how many were taken."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _end(self, request: Request, reason: str, error: Exception | None = None) -> None:
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _fail(self, requests: Sequence[Request], error: Exception) -> None:
        """What the device was asked for these requests has failed: they end, the others go on."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _retire(self, request: Request) -> None:
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _release(self, request: Request) -> None:
        """Give back what a request holds: its place among the running, its slot, its own cache."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    def _log(self, kind: EventKind, request: Request, tokens: int = 0) -> None:
        self._events.append(Event(self.clock(), kind, request.request_id, tokens))
