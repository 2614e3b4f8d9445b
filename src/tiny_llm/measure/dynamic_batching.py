"""Dynamic batching, between static and continuous: a group is closed when it is full or its oldest request has waited long
enough.

Inference servers for models without a KV cache work like this (Triton's dynamic batcher, with its `max_queue_delay`).
"""

import time
from collections.abc import Callable
from itertools import islice
from math import inf

from tiny_llm_kit.course import task

from ..in_flight import InFlight
from ..model import Model
from ..model_runner import ModelRunner
from ..prefill import chunk_bounds
from ..request import Request
from ..request_book import RequestBook


class DynamicBatcher(RequestBook):
    """Serves requests in groups: a group starts together, and no request joins before its longest answer is done.

    While no group runs, the waiting requests form the next one, at most `batch_size` of them; it starts as soon as it is full,
    or the request that came first has waited `max_wait` seconds. With `max_wait` 0 the next group is the requests that are
    there when the last one is over: static batching, for requests that come at any time. A group is over as soon as all of its
    members have ended; if a step that no request needs is still on its way, it is dropped.

    An iteration brings back one token per row; the one that starts a group computes its prompts first. Rows of finished answers
    keep running with the group, as in `run_static`, and `max_slots` in the log is `batch_size`; the active requests are those
    of the group that had not ended when the iteration began, and in its first iteration all whose prompts were launched. An
    error ends the requests that it concerns, as in `ContinuousBatchScheduler`.

    Args:
        model: see `Model`.
        batch_size: most requests of a group.
        max_wait: seconds.
        max_seq_len: most tokens a request may have, prompt and answer together.
        prefill_step: most prompt tokens per call of the model.
        clock: seconds.
    Raises:
        ValueError: if a size is less than 1, or `max_wait` is negative or infinite.
    """

    def __init__(
        self,
        model: Model,
        batch_size: int,
        max_wait: float = 0.0,
        *,
        max_seq_len: int = 512,
        prefill_step: int = 128,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        for name, size in {"batch_size": batch_size, "max_seq_len": max_seq_len, "prefill_step": prefill_step}.items():
            if size < 1:
                raise ValueError(f"{name} is {size}: it must be at least 1")
        if not 0 <= max_wait < inf:
            raise ValueError(f"max_wait is {max_wait}: it must be 0 seconds or more, and not infinite")
        super().__init__(max_seq_len, model.config.vocab_size, clock)
        self.batch_size = batch_size
        self.max_wait = max_wait
        self.prefill_step = prefill_step
        self.runner = ModelRunner(model, batch_size, 2 * max_seq_len)  # a finished row keeps running, past its own end
        self._came: dict[int, float] = {}  # when each waiting request came
        self._group: list[Request] = []  # one row each, whether the request has ended or not
        self._in_flight = InFlight()

    @task(week=2, day=7, number=5)
    def submit(self, request: Request) -> Request:
        """Queue a new request, see `RequestBook.submit`; from now on it waits for its group."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=5)
    def idle_until(self) -> float | None:
        """When the next group starts if no other request comes; None if it can start now, a group runs, or no request waits."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=5)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one.

        Before `idle_until` there is nothing to do: it returns [] and logs nothing. If requests were cancelled meanwhile, it
        logs an iteration without work and returns them.

        Raises:
            BaseException: what interrupts an iteration; see `RequestBook.iteration`.
        """
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    def release(self, request: Request) -> None:
        """Forget when the request came. Its row stays until its group is over."""
        self._came.pop(request.request_id, None)

    def abandon(self, error: BaseException) -> None:
        """End all running requests. What is on its way is dropped, and the next group begins with new memory."""
        self._in_flight = InFlight()
        super().abandon(error)

    @task(week=2, day=7, number=5)
    def _start_group(self) -> None:
        """Admit the waiting requests, as many as a group may have, and launch their prompts."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=5)
    def _prefill(self, request: Request) -> None:
        """Launch a prompt, chunk by chunk, and give the request the next row of the group."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=5)
    def _launch(self) -> InFlight:
        """Launch a token for each row of the group, unless all tokens that are still wanted are on their way."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=5)
    def _set_to_work(self, launched: InFlight) -> None:
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")

    @task(week=2, day=7, number=5)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens that have come back to their requests; return how many were kept."""
        raise NotImplementedError("Week 2 Day 7, task 5: dynamic batching. Read book/src/week2-07-measuring.md")
