from tiny_llm_kit.course import task

from .event_log import EventKind
from .request import Request


class RequestBook:
    @task(week=2, day=6, number=1)
    def submit(self, request: Request) -> Request:
        self.check_thread()
        room = self.max_seq_len - len(request.prompt)
        if not request.prompt:
            raise ValueError("the prompt is empty")
        if room < 1:
            raise ValueError(
                f"a prompt of {len(request.prompt)} tokens leaves no room for an answer: {self.max_seq_len} tokens at most"
            )
        unknown = [token for token in request.prompt if not 0 <= token < self.vocab_size]
        if unknown:
            raise ValueError(f"token {unknown[0]} is not one of the model's {self.vocab_size}")
        known = any(request.request_id in where for where in (self.waiting, self.running, self._ended))
        if known or request.state != "waiting" or request.generated_tokens:
            raise ValueError(f"request {request.request_id} is not new: it was submitted or has ended before")
        request.max_tokens = min(request.max_tokens, room)
        self.waiting[request.request_id] = request
        self.event_log.record(EventKind.ARRIVED, request.request_id, len(request.prompt))
        return request

    @task(week=2, day=6, number=1)
    def admit(self, request: Request) -> None:
        for other in self.waiting.values():
            if other is request:
                break
            other.overtaken += 1
        self.running[request.request_id] = self.waiting.pop(request.request_id)
        self.event_log.record(EventKind.ADMITTED, request.request_id)

    @task(week=2, day=6, number=1)
    def take(self, request: Request, token: int) -> int:
        if request.finish_reason is not None:
            return 0
        before = len(request.generated_tokens)
        self.event_log.record(EventKind.TOKEN if before else EventKind.FIRST_TOKEN, request.request_id)
        try:
            request.accept(token)
        except Exception as error:
            self.end(request, "error", error)
        else:
            if request.finish_reason is not None:
                self.end(request, request.finish_reason)
            else:
                self._tell(request)
        return len(request.generated_tokens) - before

    @task(week=2, day=6, number=1)
    def end(self, request: Request, reason: str, error: BaseException | None = None) -> None:
        try:
            try:
                request.finish(reason, error)
            except Exception as failure:
                request.finish("error", failure)
        finally:
            if request.request_id in self.waiting or request.request_id in self.running:
                self._ended[request.request_id] = request
                self.waiting.pop(request.request_id, None)
                self.running.pop(request.request_id, None)
                try:
                    self._tell(request)
                finally:
                    self.release(request)
                    self._log_end(request)

    @task(week=2, day=6, number=1)
    def close_iteration(self, active: int, max_slots: int, queue_size: int, new_tokens: int) -> list[Request]:
        state = self.event_log.close_step(active, max_slots, queue_size, new_tokens)
        self.metrics.update(state)
        ended = list(self._ended.values())
        self._ended.clear()
        return ended

    @task(week=2, day=6, number=1)
    def _tell(self, request: Request) -> None:
        if request.on_update is None or request.error is not None:
            return
        new_text = request.text[request.shown :]
        request.shown = len(request.text)
        busy, self._busy = self._busy, True
        try:
            request.on_update(request, new_text)
        except Exception as error:
            self.end(request, "error", error)
        finally:
            self._busy = busy
