import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from tiny_llm_kit.course import task

from .answers import (
    ApiError,
    ChatChunkChoice,
    ChatCompletionChunk,
    CompletionChoice,
    CompletionLogprobs,
    CompletionResponse,
    Usage,
)
from .ticket import Delta, Ticket


@task(week=3, day=6, number=4)
def sse(data: str | Mapping[str, Any] | BaseModel) -> bytes:
    match data:
        case str():
            text = data.replace("\r\n", "\n").replace("\r", "\n")
        case BaseModel():
            text = json.dumps(data.model_dump(mode="json"), separators=(",", ":"))
        case _:
            text = json.dumps(data, separators=(",", ":"))
    return b"".join(b"data: " + line.encode() + b"\n" for line in text.split("\n")) + b"\n"


@task(week=3, day=6, number=4)
async def merge(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, Delta], None]:
    # A queue of one place: what nobody takes stays in the tickets, which know how much they may keep.
    queue: asyncio.Queue[tuple[int, Delta]] = asyncio.Queue(1)

    async def pump(index: int, ticket: Ticket) -> None:
        async for delta in ticket:
            await queue.put((index, delta))

    pumps = [asyncio.create_task(pump(*one)) for one in enumerate(tickets)]
    try:
        going = len(pumps)
        while going:
            index, delta = await queue.get()
            going -= delta.is_last
            yield index, delta
    finally:
        for one in pumps:
            one.cancel()


@task(week=3, day=6, number=4)
async def stream_events(
    tickets: Sequence[Ticket],
    chunks: Chunks,
    *,
    explain: Callable[[BaseException], ApiError],
    include_usage: bool = False,
    n: int = 1,
) -> AsyncGenerator[bytes, None]:
    unwanted = None if include_usage else {"usage"}
    tokens = [0] * len(tickets)
    merged = merge(tickets)
    try:
        for index, _ in enumerate(tickets):
            first = chunks.begin(index)
            if first is not None:
                yield sse(first.model_dump(exclude=unwanted))
        async for index, delta in merged:
            tokens[index] += len(delta.tokens)
            if delta.text != "" or delta.logprobs != ():
                yield sse(chunks.piece(index, delta).model_dump(exclude=unwanted))
            match delta:
                case Delta(error=None, finish_reason=None):
                    continue
                case Delta(error=None, finish_reason=reason):
                    yield sse(chunks.end(index, reason).model_dump(exclude=unwanted))
                case Delta(error=error):
                    yield sse(explain(error).as_json())
                    return
        if include_usage:
            prompts = [ticket.prompt_tokens for index, ticket in enumerate(tickets) if index % n == 0]
            yield sse(chunks.usage(Usage.count(sum(prompts), sum(tokens))))
        yield sse("[DONE]")
    finally:
        for ticket in tickets:
            ticket.cancel()
        await merged.aclose()


class ChatChunks:
    @task(week=3, day=6, number=4)
    def begin(self, index: int) -> BaseModel:
        choice = {"index": index, "delta": {"role": "assistant", "content": ""}}
        return ChatCompletionChunk.model_validate({**self.head, "choices": [choice]})

    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        choice = ChatChunkChoice(index=index, delta={"content": delta.text})
        if delta.logprobs:
            choice.logprobs = ChatLogprobs(content=[*delta.logprobs])
        return self._chunk(choice)

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        choice = {"index": index, "delta": {}, "finish_reason": finish_reason}
        return ChatCompletionChunk.model_validate({**self.head, "choices": [choice]})


class CompletionChunks:
    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        choice = CompletionChoice(index=index, text=delta.text)
        if delta.logprobs:
            choice.logprobs = CompletionLogprobs.of(delta.logprobs, self._letters[index])
            written = b"".join(bytes(token.bytes) for token in delta.logprobs)
            self._letters[index] += len(self._decoders[index].decode(written))
        return self._chunk(choice)

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        choice = {"index": index, "text": "", "finish_reason": finish_reason}
        return CompletionResponse.model_validate({**self.head, "choices": [choice]})
