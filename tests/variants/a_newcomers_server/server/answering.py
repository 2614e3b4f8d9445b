import asyncio
import time
from collections.abc import Sequence

from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tiny_llm_kit.course import task

from .answers import ApiError
from .error_answers import explain
from .stream import ChatChunks, CompletionChunks, stream_events
from .ticket import Ticket


class Answer(Response):
    @task(week=3, day=6, number=5)
    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.service.request_timeout
        tickets: list[Ticket] = []
        timer = None
        late = ApiError(504, f"the answer was not complete after {self.service.request_timeout} seconds", "server_error")
        try:
            try:
                async with asyncio.timeout_at(deadline):
                    tickets = await self.service.ask(self.asked)
            except TimeoutError:
                raise late from None
            timer = loop.call_at(deadline, _end, tickets, late)
            response = self._streamed(tickets) if self.asked.stream else await self._whole(tickets)
            await response(scope, receive, send)
        finally:
            if timer is not None:
                timer.cancel()
            for ticket in tickets:
                ticket.cancel()

    @task(week=3, day=6, number=5)
    def _streamed(self, tickets: Sequence[Ticket]) -> StreamingResponse:
        head = {**self._head(tickets), "created": int(time.time())}
        chunks = ChatChunks(**head) if self.is_chat else CompletionChunks(**head)
        events = stream_events(
            tickets,
            chunks,
            explain=explain,
            include_usage=self.asked.stream_options.include_usage,
            n=self.asked.n,
        )
        return StreamingResponse(
            events, media_type="text/event-stream", headers={"cache-control": "no-store", "x-accel-buffering": "no"}
        )
