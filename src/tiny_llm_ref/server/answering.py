"""Answering one body: from checking it to the last byte of its answer, whole or as a stream. It knows no paths and no API
keys."""

import asyncio
import uuid
from collections.abc import Sequence
from typing import Any, cast

from pydantic import BaseModel
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from tiny_llm_kit.course import task

from .answers import (
    ApiError,
    ChatChoice,
    ChatCompletionResponse,
    ChatLogprobs,
    ChatMessage,
    CompletionChoice,
    CompletionLogprobs,
    CompletionResponse,
    FinishReason,
    Usage,
)
from .error_answers import explain
from .protocol import ChatCompletionRequest
from .service import Generation, Service, unless_gone
from .stream import ChatChunks, CompletionChunks, stream_events
from .ticket import Delta, Ticket


class Answer(Response):
    """The answer to a body. If the client leaves, it stops wherever it is, and nothing of it remains in the engine."""

    def __init__(self, service: Service, body: Generation) -> None:
        super().__init__()
        self.service = service
        self.asked = body
        self.is_chat = isinstance(body, ChatCompletionRequest)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await unless_gone(receive, self._answer(scope, receive, send))

    @task(week=3, day=6, number=5)
    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Submit, and send what comes. After `request_timeout` seconds, open tickets end with an error of status 504.

        However this ends, even by cancellation, all tickets are cancelled.

        Raises:
            Exception: what went wrong before anything was sent.
        """
        loop, seconds = asyncio.get_running_loop(), self.service.request_timeout
        late = ApiError(504, f"the answer was not complete after {seconds:g} s", "timeout_error")
        deadline = loop.time() + seconds
        try:
            async with asyncio.timeout_at(deadline):
                tickets = await self.service.ask(self.asked)
        except TimeoutError:
            raise late from None
        timer = loop.call_at(deadline, _end, tickets, late)
        try:
            if self.asked.stream:
                await self._streamed(tickets).stream_response(send)
            else:
                response = await self._whole(tickets)
                await response(scope, receive, send)
        finally:
            timer.cancel()
            for ticket in tickets:
                ticket.cancel()

    @task(week=3, day=6, number=5)
    async def _whole(self, tickets: Sequence[Ticket]) -> Response:
        """Wait for all choices, and put them into one body.

        Raises:
            ApiError: if one of them ends with an error: half an answer is not an answer.
        """
        try:
            parts = await asyncio.gather(*(ticket.whole() for ticket in tickets))
        except Exception as error:
            raise explain(error) from error
        prompt_tokens = sum(ticket.prompt_tokens for ticket in tickets[:: self.asked.n])
        usage = Usage.count(prompt_tokens, sum(len(part.tokens) for part in parts))
        head, numbered = self._head(tickets), enumerate(parts)
        body: BaseModel
        if self.is_chat:
            body = ChatCompletionResponse(choices=[_chat_choice(*one) for one in numbered], usage=usage, **head)
        else:
            body = CompletionResponse(choices=[_completion_choice(*one) for one in numbered], usage=usage, **head)
        return Response(body.model_dump_json(), media_type="application/json")

    @task(week=3, day=6, number=5)
    def _streamed(self, tickets: Sequence[Ticket]) -> StreamingResponse:
        """The events of all choices, see `stream_events`. Proxies on the way must not buffer them."""
        chunks = (ChatChunks if self.is_chat else CompletionChunks)(**self._head(tickets))
        include_usage = self.asked.stream_options.include_usage
        events = stream_events(tickets, chunks, explain=explain, include_usage=include_usage, n=self.asked.n)
        return StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-store"})

    def _head(self, tickets: Sequence[Ticket]) -> dict[str, Any]:
        """What a whole answer and all chunks of a stream begin with. The id contains the number that `/live` shows."""
        kind = "chatcmpl" if self.is_chat else "cmpl"
        return {"id": f"{kind}-{tickets[0].request_id}-{uuid.uuid4().hex}", "model": self.service.model_name}


def _end(tickets: Sequence[Ticket], error: ApiError) -> None:
    for ticket in tickets:
        ticket.cancel()
        ticket.fail(error)


def _completion_choice(index: int, part: Delta) -> CompletionChoice:
    logprobs = CompletionLogprobs.of(part.logprobs) if part.logprobs else None
    return CompletionChoice(
        index=index, text=part.text, logprobs=logprobs, finish_reason=cast(FinishReason, part.finish_reason)
    )


def _chat_choice(index: int, part: Delta) -> ChatChoice:
    logprobs = ChatLogprobs(content=list(part.logprobs)) if part.logprobs else None
    message = ChatMessage(content=part.text)
    return ChatChoice(index=index, message=message, logprobs=logprobs, finish_reason=cast(FinishReason, part.finish_reason))
