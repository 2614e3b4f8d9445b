import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from tiny_llm_kit.course import task

from .answers import ApiError, ChatChunkChoice, ChatLogprobs, CompletionChoice, CompletionLogprobs, Usage
from .ticket import Delta, Ticket


@task(week=3, day=6, number=4)
def sse(data: str | Mapping[str, Any] | BaseModel) -> bytes:
    if not isinstance(data, str):
        data = json.dumps(dict(data), default=BaseModel.model_dump, ensure_ascii=True)
    event, after_return = "data: ", False
    for letter in data:
        if letter in "\r\n":
            event += "" if after_return and letter == "\n" else "\ndata: "
        else:
            event += letter
        after_return = letter == "\r"
    return (event + "\n\n").encode()


@task(week=3, day=6, number=4)
async def merge(tickets: Sequence[Ticket]) -> AsyncGenerator[tuple[int, Delta], None]:
    def ask(index: int) -> asyncio.Task[Delta]:
        return asyncio.create_task(anext(tickets[index]))

    asked = {index: ask(index) for index in range(len(tickets))}
    try:
        while asked:
            await asyncio.wait(asked.values(), return_when=asyncio.FIRST_COMPLETED)
            for index in [index for index in asked if asked[index].done()]:
                delta = asked.pop(index).result()
                if not delta.is_last:
                    asked[index] = ask(index)
                yield index, delta
    finally:
        for index in asked:
            asked[index].cancel()


@task(week=3, day=6, number=4)
async def stream_events(
    tickets: Sequence[Ticket],
    chunks: Chunks,
    *,
    explain: Callable[[BaseException], ApiError],
    include_usage: bool = False,
    n: int = 1,
) -> AsyncGenerator[bytes, None]:
    deltas = merge(tickets)
    counted = 0
    try:
        for begin in [chunks.begin(index) for index in range(len(tickets))]:
            if begin is not None:
                yield _event(begin, include_usage)
        async for index, delta in deltas:
            counted += len(delta.tokens)
            told: list[BaseModel] = []
            if len(delta.text) + len(delta.logprobs) > 0:
                told.append(chunks.piece(index, delta))
            if delta.finish_reason is not None:
                told.append(chunks.end(index, delta.finish_reason))
            for chunk in told:
                yield _event(chunk, include_usage)
            if delta.error is not None:
                break
        else:
            if include_usage:
                prompts = sum(ticket.prompt_tokens for ticket in tickets) // n
                yield _event(chunks.usage(Usage.count(prompts, counted)), True)
            yield sse(DONE)
            return
        yield sse(explain(delta.error).as_json())
    finally:
        for ticket in tickets:
            ticket.cancel()
        await deltas.aclose()


def _event(chunk: BaseModel, include_usage: bool) -> bytes:
    return sse({name: value for name, value in chunk.model_dump().items() if include_usage or name != "usage"})


class ChatChunks:
    @task(week=3, day=6, number=4)
    def begin(self, index: int) -> BaseModel:
        return self._chunk(ChatChunkChoice(index=index, delta=dict(role="assistant", content="")))  # noqa: C408

    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        fields: dict[str, Any] = {"index": index, "delta": {"content": delta.text}}
        if len(delta.logprobs) > 0:
            fields["logprobs"] = ChatLogprobs(content=list(delta.logprobs))
        return self._chunk(ChatChunkChoice(**fields))

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        last = ChatChunkChoice(index=index, delta={})
        last.finish_reason = finish_reason
        return self._chunk(last)


class CompletionChunks:
    @task(week=3, day=6, number=4)
    def piece(self, index: int, delta: Delta) -> BaseModel:
        fields: dict[str, Any] = {"index": index, "text": delta.text}
        if len(delta.logprobs) > 0:
            before = self._letters[index]
            decode = self._decoders[index].decode
            self._letters[index] += sum(len(decode(bytes(token.bytes))) for token in delta.logprobs)
            fields["logprobs"] = CompletionLogprobs.of(delta.logprobs, before)
        return self._chunk(CompletionChoice(**fields))

    @task(week=3, day=6, number=4)
    def end(self, index: int, finish_reason: Any) -> BaseModel:
        last = CompletionChoice(index=index, text="")
        last.finish_reason = finish_reason
        return self._chunk(last)
