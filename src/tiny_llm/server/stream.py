"""Answers in pieces, as server-sent events (WHATWG HTML, section 9.2): a line of data, an empty line, and so on.

It knows tickets and the shapes of chunks, but no engine and no web framework.
"""

import asyncio
import codecs
import json
import re
from collections import defaultdict
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Protocol

from pydantic import BaseModel

from tiny_llm_kit.course import task

from .answers import (
    ApiError,
    ChatChunkChoice,
    ChatCompletionChunk,
    ChatLogprobs,
    CompletionChoice,
    CompletionLogprobs,
    CompletionResponse,
    Usage,
)
from .ticket import Delta, Ticket

DONE = "[DONE]"
"""The data of the last event of a stream that is complete."""


@task(week=3, day=6, number=4)
def sse(data: str | Mapping[str, Any] | BaseModel) -> bytes:
    """One event: text as it is, anything else as JSON. Each line of the text gets its own `data:`.

    JSON is written in ASCII: then it has no line ends, and can hold half a surrogate pair, which UTF-8 can't.
    """
    raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=4)
async def merge(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, Delta], None]:
    """The deltas of several tickets as they come, each with the index of its ticket, until all have ended.

    None waits for another: a step's deltas come out together, whichever tickets got one.
    """
    raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")


class Chunks(Protocol):
    """The shapes of the chunks of one stream. None means that there is no such chunk."""

    def begin(self, index: int) -> BaseModel | None:
        """What comes before the first piece of answer `index`."""

    def piece(self, index: int, delta: Delta) -> BaseModel:
        """New text, or log-probabilities of tokens that have no text yet."""

    def end(self, index: int, finish_reason: str) -> BaseModel:
        """What comes after the last piece of answer `index`."""

    def usage(self, usage: Usage) -> BaseModel:
        """What comes after all answers: it has no choices."""


@task(week=3, day=6, number=4)
async def stream_events(
    tickets: Sequence[Ticket],
    chunks: Chunks,
    *,
    explain: Callable[[BaseException], ApiError],
    include_usage: bool = False,
    n: int = 1,
) -> AsyncGenerator[bytes, None]:
    """The events of a stream: what begins each answer, pieces as they come, an end for each answer, the usage, `[DONE]`.

    A step that brings no text makes no event, unless it has log-probabilities or the end. If an answer ends with an error, the
    error is the last event, without `[DONE]`: a client must not take what it has for the whole answer. Closing this iterator,
    or cancelling its consumer, cancels all tickets that have not ended. An iterator that was never started can't do that.

    Args:
        tickets: those of the answers, in the order of their indices.
        chunks: the shapes, `ChatChunks` or `CompletionChunks`.
        explain: turns a ticket's error into what the client is told.
        include_usage: whether the client wants the usage chunk.
        n: answers per prompt; the tokens of a prompt count once.
    """
    raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")


class ChatChunks:
    """Chunks of `/v1/chat/completions`.

    Args:
        head: the fields that all chunks of a stream share: `id`, `model`, `created`.
    """

    def __init__(self, **head: Any) -> None:
        self.head = head

    @task(week=3, day=6, number=4)
    def begin(self, index: int) -> BaseModel:
        """The role, and no text yet."""
        raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")

    def usage(self, usage: Usage) -> BaseModel:
        return ChatCompletionChunk(choices=[], usage=usage, **self.head)

    def _chunk(self, choice: ChatChunkChoice) -> BaseModel:
        return ChatCompletionChunk(choices=[choice], **self.head)


class CompletionChunks:
    """Chunks of `/v1/completions`; for the arguments see `ChatChunks`."""

    def __init__(self, **head: Any) -> None:
        self.head = head
        self._letters: dict[int, int] = defaultdict(int)  # of all tokens whose log-probabilities were sent, by index
        self._decoders: dict[int, Any] = defaultdict(lambda: codecs.getincrementaldecoder("utf-8")("replace"))

    def begin(self, index: int) -> None:
        """Nothing comes before the text."""

    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        raise NotImplementedError("Week 3 Day 6, task 4: server-sent events. Read book/src/week3-06-server.md")

    def usage(self, usage: Usage) -> BaseModel:
        return CompletionResponse(choices=[], usage=usage, **self.head)

    def _chunk(self, choice: CompletionChoice) -> BaseModel:
        return CompletionResponse(choices=[choice], **self.head)
