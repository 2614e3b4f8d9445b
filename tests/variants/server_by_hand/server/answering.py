import asyncio
from collections.abc import Sequence

from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tiny_llm_kit.course import task

from .answers import ApiError, ChatCompletionResponse, CompletionResponse, Usage
from .error_answers import explain
from .stream import ChatChunks, CompletionChunks, stream_events
from .ticket import Delta, Ticket


class Answer(Response):
    @task(week=3, day=6, number=5)
    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self.service.request_timeout
        late = ApiError(504, f"{self.service.request_timeout} seconds were not enough for the answer", "server_error")
        tickets: list[Ticket] = []

        async def watch() -> None:
            await asyncio.sleep(deadline - asyncio.get_running_loop().time())
            _end(tickets, late)

        watching = asyncio.create_task(watch())
        try:
            async with asyncio.timeout_at(deadline):
                tickets += await self.service.ask(self.asked)
        except TimeoutError:
            watching.cancel()
            raise late from None
        except BaseException:
            watching.cancel()
            raise
        try:
            answer = self._streamed(tickets) if self.asked.stream else await self._whole(tickets)
            if isinstance(answer, StreamingResponse):
                await answer.stream_response(send)
            else:
                await answer(scope, receive, send)
        finally:
            watching.cancel()
            for ticket in tickets:
                ticket.cancel()

    @task(week=3, day=6, number=5)
    async def _whole(self, tickets: Sequence[Ticket]) -> Response:
        reading = [asyncio.create_task(ticket.whole()) for ticket in tickets]
        try:
            done, _ = await asyncio.wait(reading, return_when=asyncio.FIRST_EXCEPTION)
            for one in done:
                if one.exception() is not None:
                    raise explain(one.exception())
        finally:
            for one in reading:
                one.cancel()
        parts: list[Delta] = [one.result() for one in reading]
        prompt = sum(ticket.prompt_tokens for ticket in tickets) // self.asked.n
        make, kind = (_chat_choice, ChatCompletionResponse) if self.is_chat else (_completion_choice, CompletionResponse)
        body = kind(
            **self._head(tickets),
            choices=[make(index, part) for index, part in enumerate(parts)],
            usage=Usage.count(prompt, sum(len(part.tokens) for part in parts)),
        )
        return JSONResponse(body.model_dump(mode="json"))

    @task(week=3, day=6, number=5)
    def _streamed(self, tickets: Sequence[Ticket]) -> StreamingResponse:
        head = self._head(tickets)
        events = stream_events(
            tickets,
            ChatChunks(**head) if self.is_chat else CompletionChunks(**head),
            explain=explain,
            include_usage=self.asked.stream_options.include_usage,
            n=self.asked.n,
        )
        response = StreamingResponse(events, media_type="text/event-stream")
        response.headers["Cache-Control"] = "no-store"
        return response
