"""A book that hands out news from one place of its own."""

from tiny_llm_kit.course import task

from .event_log import EventKind
from .request import Request


class RequestBook:
    @task(week=2, day=6, number=1)
    def admit(self, request: Request) -> None:
        ids = list(self.waiting)
        for earlier in ids[: ids.index(request.request_id)]:
            self.waiting[earlier].overtaken += 1
        self.running[request.request_id] = request
        del self.waiting[request.request_id]
        self.event_log.record(EventKind.ADMITTED, request.request_id)

    @task(week=2, day=6, number=1)
    def take(self, request: Request, token: int) -> int:
        if request.state == "finished":
            return 0
        kind = EventKind.TOKEN if request.generated_tokens else EventKind.FIRST_TOKEN
        self.event_log.record(kind, request.request_id)
        had = len(request.generated_tokens)
        try:
            request.accept(token)
        except Exception as error:
            self.end(request, "error", error)
        else:
            if request.state == "finished":
                self.end(request, request.finish_reason)
            else:
                self._news_for(request)
        return len(request.generated_tokens) - had

    @task(week=2, day=6, number=1)
    def end(self, request: Request, reason: str, error: BaseException | None = None) -> None:
        try:
            request.finish(reason, error)
        except Exception as raised:
            request.finish("error", raised)
        if not {request.request_id} & (self.waiting.keys() | self.running.keys()):
            return
        self._ended[request.request_id] = request
        for place in (self.waiting, self.running):
            place.pop(request.request_id, None)
        try:
            if request.finish_reason != "error":
                self._news_for(request)
        finally:
            self.release(request)
            self._log_end(request)

    def _news_for(self, request: Request) -> None:
        if request.on_update is None:
            return
        news = request.text[request.shown :]
        request.shown += len(news)
        was_busy = self._busy
        self._busy = True
        try:
            request.on_update(request, news)
        except Exception as error:
            self.end(request, "error", error)
        finally:
            self._busy = was_busy
