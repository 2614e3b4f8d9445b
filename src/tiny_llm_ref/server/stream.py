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
    if isinstance(data, BaseModel):
        data = data.model_dump()
    text = data if isinstance(data, str) else json.dumps(data)
    lines = re.split("\r\n|\r|\n", text)
    return ("".join(f"data: {line}\n" for line in lines) + "\n").encode()


@task(week=3, day=6, number=4)
async def merge(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, Delta], None]:
    """The deltas of several tickets as they come, each with the index of its ticket, until all have ended.

    None waits for another: a step's deltas come out together, whichever tickets got one.
    """
    waiting = {asyncio.create_task(ticket.__anext__()): index for index, ticket in enumerate(tickets)}
    try:
        while waiting:
            done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for index, delta in sorted(((waiting.pop(one), one.result()) for one in done), key=lambda pair: pair[0]):
                if not delta.is_last:
                    waiting[asyncio.create_task(tickets[index].__anext__())] = index
                yield index, delta
    finally:
        for one in waiting:
            one.cancel()


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

    def event(chunk: BaseModel) -> bytes:
        fields = chunk.model_dump()
        if not include_usage:
            fields.pop("usage", None)
        return sse(fields)

    completion_tokens = 0
    try:
        for index in range(len(tickets)):
            if begin := chunks.begin(index):
                yield event(begin)
        async with aclosing(merge(tickets)) as deltas:
            async for index, delta in deltas:
                completion_tokens += len(delta.tokens)
                if delta.text or delta.logprobs:
                    yield event(chunks.piece(index, delta))
                if delta.error is not None:
                    yield sse(explain(delta.error).as_json())
                    return
                if delta.finish_reason is not None:
                    yield event(chunks.end(index, delta.finish_reason))
        if include_usage:
            prompt_tokens = sum(ticket.prompt_tokens for ticket in tickets[::n])
            yield event(chunks.usage(Usage.count(prompt_tokens, completion_tokens)))
        yield sse(DONE)
    finally:
        for ticket in tickets:
            ticket.cancel()


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
        return self._chunk(ChatChunkChoice(index=index, delta={"role": "assistant", "content": ""}))

    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        logprobs = ChatLogprobs(content=list(delta.logprobs)) if delta.logprobs else None
        return self._chunk(ChatChunkChoice(index=index, delta={"content": delta.text}, logprobs=logprobs))

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        return self._chunk(ChatChunkChoice(index=index, delta={}, finish_reason=finish_reason))

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
        logprobs = None
        if delta.logprobs:
            logprobs = CompletionLogprobs.of(delta.logprobs, self._letters[index])
            for token in delta.logprobs:
                self._letters[index] += len(self._decoders[index].decode(bytes(token.bytes)))
        return self._chunk(CompletionChoice(index=index, text=delta.text, logprobs=logprobs))

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        return self._chunk(CompletionChoice(index=index, text="", finish_reason=finish_reason))

    def usage(self, usage: Usage) -> BaseModel:
        return CompletionResponse(choices=[], usage=usage, **self.head)

    def _chunk(self, choice: CompletionChoice) -> BaseModel:
        return CompletionResponse(choices=[choice], **self.head)
