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
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    async def _whole(self, tickets: Sequence[Ticket]) -> Response:
        """Wait for all choices, and put them into one body.

        Raises:
            ApiError: if one of them ends with an error: half an answer is not an answer.
        """
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    def _streamed(self, tickets: Sequence[Ticket]) -> StreamingResponse:
        """The events of all choices, see `stream_events`. Proxies on the way must not buffer them."""
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

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
