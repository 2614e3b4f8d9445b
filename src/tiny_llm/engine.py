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
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def release(self, request: Request) -> None:
        """Free the request's slot, if it has one."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

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
        raise NotImplementedError(
            "Week 2 Day 6, task 9: testing and benchmarking. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _make_room(self) -> list[Request]:
        """Free the slots of requests whose last token is already on its way, and close the gaps.

        Returns:
            The requests that have a slot or need one: all other running ones.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _launch(self, plan: StepPlan) -> InFlight:
        """Launch the decode call and then the chunks of a plan, admit and join the requests concerned, and start the device.

        Returns:
            What is on its way now; nothing, if the device could not be started.
        """
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _join(self, request: Request, first_token: Drawn) -> None:
        """Give a prefilled request its row of the batch, unless its first token is all it wants."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )

    @task(week=2, day=6, number=4)
    def _update(self, landed: InFlight) -> int:
        """Read what was launched, and hand the tokens to their requests; return how many were kept."""
        raise NotImplementedError(
            "Week 2 Day 6, task 4: prefill and decode phases. Read book/src/week2-06-continuous-batching.md"
        )
