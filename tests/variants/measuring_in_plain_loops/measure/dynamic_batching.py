"""A batcher that computes a step, waits for it, and hands its tokens out."""

import time
from collections.abc import Callable
from math import isfinite
from typing import Any

from tiny_llm_kit.course import task

from ..in_flight import Drawn
from ..model import Model
from ..model_runner import ModelRunner
from ..request import Request
from ..request_book import RequestBook


class DynamicBatcher(RequestBook):
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
        if min(batch_size, max_seq_len, prefill_step) < 1:
            raise ValueError(
                f"batch_size {batch_size}, max_seq_len {max_seq_len} and prefill_step {prefill_step} are 1 or more"
            )
        if max_wait < 0 or not isfinite(max_wait):
            raise ValueError(f"max_wait must be a time, not {max_wait}")
        super().__init__(max_seq_len, model.config.vocab_size, clock)
        self.model = model
        self.size = batch_size
        self.patience = max_wait
        self.chunk = prefill_step
        self.queue: list[tuple[float, Request]] = []
        self.rows: list[Request] = []
        self.runner: ModelRunner | None = None

    @task(week=2, day=7, number=5)
    def submit(self, request: Request) -> Request:
        super().submit(request)
        self.queue.append((self.clock(), request))
        return request

    @property
    @task(week=2, day=7, number=5)
    def idle_until(self) -> float | None:
        self.queue = [(came, request) for came, request in self.queue if request.request_id in self.waiting]
        if self.running or not self.queue or len(self.queue) >= self.size:
            return None
        latest = self.queue[0][0] + self.patience
        return None if self.clock() >= latest else latest

    @task(week=2, day=7, number=5)
    def step(self) -> list[Request]:
        with self.iteration():
            if self.idle_until is not None:
                if not self._ended:
                    return []
                return self.close_iteration(0, self.size, len(self.waiting), 0)
            drawn: list[Drawn] = []
            if self.running:
                active, queued = len(self.running), len(self.waiting)
                with self.failures_end(list(self.running.values())):
                    drawn.append(self.runner.decode(self.rows))
            else:
                self.rows = []
                chosen = [request for _, request in self.queue[: self.size]]
                for request in chosen:
                    self.admit(request)
                self.runner = ModelRunner(self.model, self.size, 2 * self.max_seq_len)
                for request in chosen:
                    with self.failures_end([request]):
                        drawn.append(self._first(request))
                active, queued = len(self.running), len(self.waiting)
            kept = 0
            try:
                tokens = [token for one in drawn for token in one.tokens.tolist()]
                best = [value for one in drawn for value in one.best.tolist()]
            except Exception as error:
                self.abandon(error)
                tokens = best = []
            for request, token, value in zip(self.rows, tokens, best, strict=False):
                if isfinite(value):
                    kept += self.take(request, token)
                elif request.request_id in self.running:
                    self.end(request, "error", ArithmeticError("NaN or infinite logits"))
        return self.close_iteration(active, self.size, queued, kept)

    def _first(self, request: Request) -> Drawn:
        start, length = 0, len(request.prompt)
        drawn: Any = None
        while start < length:
            end = min(start + self.chunk, length)
            drawn = self.runner.prefill(request, start, end)
            self.log_chunk(request, start, end)
            start = end
        self.runner.join(request, len(self.rows), drawn)
        self.rows.append(request)
        return drawn

    def release(self, request: Request) -> None:
        pass

    def abandon(self, error: BaseException) -> None:
        self.rows = []
        super().abandon(error)
