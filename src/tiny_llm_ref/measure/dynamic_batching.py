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
        super().submit(request)
        self._came[request.request_id] = self.clock()
        return request

    @property
    @task(week=2, day=7, number=5)
    def idle_until(self) -> float | None:
        """When the next group starts if no other request comes; None if it can start now, a group runs, or no request waits."""
        if self.running or not self.waiting or len(self.waiting) >= self.batch_size:
            return None
        oldest = next(iter(self.waiting))
        start = self._came.get(oldest, -inf) + self.max_wait  # Ctrl-C may have come before it was noted
        return start if self.clock() < start else None

    @task(week=2, day=7, number=5)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one.

        Before `idle_until` there is nothing to do: it returns [] and logs nothing. If requests were cancelled meanwhile, it
        logs an iteration without work and returns them.

        Raises:
            BaseException: what interrupts an iteration; see `RequestBook.iteration`.
        """
        with self.iteration():
            idle = self.idle_until is not None
            if idle and not self._ended:
                return []
            if not self.running and not idle:
                self._start_group()
            active, queue_size = len(self.running), len(self.waiting)
            landed, self._in_flight = self._in_flight, self._launch()
            new_tokens = self._update(landed)
        return self.close_iteration(active, self.batch_size, queue_size, new_tokens)

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
        members = list(islice(self.waiting.values(), self.batch_size))
        self._group, self._in_flight = [], InFlight()
        self.runner.reset()
        for request in members:
            self.admit(request)
            with self.failures_end([request]):
                self._prefill(request)
        self._set_to_work(self._in_flight)

    @task(week=2, day=7, number=5)
    def _prefill(self, request: Request) -> None:
        """Launch a prompt, chunk by chunk, and give the request the next row of the group."""
        for start, end in chunk_bounds(len(request.prompt), self.prefill_step):
            first_token = self.runner.prefill(request, start, end)
            self.log_chunk(request, start, end)
        assert first_token is not None, "the last chunk ends the prompt"
        self.runner.join(request, len(self._group), first_token)
        self._group.append(request)
        self._in_flight.add([request], first_token)

    @task(week=2, day=7, number=5)
    def _launch(self) -> InFlight:
        """Launch a token for each row of the group, unless all tokens that are still wanted are on their way."""
        launched = InFlight()
        if any(not request.all_launched for request in self.running.values()):
            with self.failures_end(list(self.running.values())):
                launched.add(self._group, self.runner.decode(self._group))
            self._set_to_work(launched)
        return launched

    @task(week=2, day=7, number=5)
    def _set_to_work(self, launched: InFlight) -> None:
        try:
            launched.start()
        except Exception as error:
            self.abandon(error)

    @task(week=2, day=7, number=5)
    def _update(self, landed: InFlight) -> int:
        """Hand the tokens that have come back to their requests; return how many were kept."""
        try:
            tokens = landed.read()
        except Exception as error:
            self.abandon(error)
            return 0
        kept = 0
        for request, token, sound in tokens:
            if sound:
                kept += self.take(request, token)
            elif request.finish_reason is None:
                self.end(request, "error", FloatingPointError("the model's logits are NaN or infinite: no token follows"))
        return kept
