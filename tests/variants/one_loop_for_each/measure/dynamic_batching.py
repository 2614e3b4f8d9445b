"""The prompts of a group are read in turn, a chunk of each, and a request joins when its prompt has ended."""

from tiny_llm_kit.course import task

from ..in_flight import InFlight
from ..request import Request
from ..request_book import RequestBook


class DynamicBatcher(RequestBook):
    @task(week=2, day=7, number=5)
    def submit(self, request: Request) -> Request:
        taken = super().submit(request)
        self._came |= {request.request_id: self.clock()}
        return taken

    @property
    @task(week=2, day=7, number=5)
    def idle_until(self) -> float | None:
        count = len(self.waiting)
        if self.running or count == 0 or count >= self.batch_size:
            return None
        came = [self._came[request_id] for request_id in self.waiting if request_id in self._came]
        start = min(came, default=float("-inf")) + self.max_wait
        return None if start <= self.clock() else start

    @task(week=2, day=7, number=5)
    def step(self) -> list[Request]:
        with self.iteration():
            if self.idle_until is not None:
                if not self._ended:
                    return []
                self._in_flight = InFlight()
            elif not self.running:
                self._read_prompts()
            active, queue_size = len(self.running), len(self.waiting)
            launched, tokens = InFlight(), []
            try:
                if not all(request.all_launched for request in self.running.values()):
                    with self.failures_end(list(self.running.values())):
                        launched.add(self._group, self.runner.decode(self._group))
                    launched.start()
                tokens = self._in_flight.read()
            except Exception as error:
                self.abandon(error)
                launched = InFlight()
            self._in_flight = launched
            kept = 0
            for request, token, sound in tokens:
                if request.finish_reason is not None:
                    continue
                if not sound:
                    self.end(request, "error", FloatingPointError("its row has logits that are NaN or infinite"))
                    continue
                kept += self.take(request, token)
        return self.close_iteration(active, self.batch_size, queue_size, kept)

    def _read_prompts(self) -> None:
        self.runner.reset()
        self._group, self._in_flight = [], InFlight()
        reading = list(self.waiting.values())[: self.batch_size]
        for request in reading:
            self.admit(request)
        while reading:
            for request in reading:
                with self.failures_end([request]):
                    end = min(request.offset + self.prefill_step, len(request.prompt))
                    self.log_chunk(request, request.offset, end)
                    first = self.runner.prefill(request, request.offset, end)
                    if first is not None:
                        self.runner.join(request, len(self._group), first)
                        self._group.append(request)
                        self._in_flight.add([request], first)
            reading = [r for r in reading if r.finish_reason is None and r.offset < len(r.prompt)]
        try:
            self._in_flight.start()
        except Exception as error:
            self.abandon(error)
