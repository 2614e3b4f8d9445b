"""Week 3 Day 6, task 4: answers as server-sent events."""

import asyncio
import inspect
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest

from answer import answer
from engine_threads import begin, run, within

pytestmark = pytest.mark.timeout(20)

HEAD = {"id": "answer-1", "model": "toy", "created": 7}


class Stream:
    """A stream over tickets that the test fills."""

    def __init__(self, tickets: int = 1, kind: str = "chat", **options: Any) -> None:
        self.given_up: list[Any] = []
        self.tickets = [answer.Ticket(64, self.given_up.append) for _ in range(tickets)]
        for ticket in self.tickets:
            ticket.prompt_tokens = 5
        chunks = answer.ChatChunks(**HEAD) if kind == "chat" else answer.CompletionChunks(**HEAD)
        self.events = answer.stream_events(self.tickets, chunks, explain=explain, **options)

    def put(self, text: str = "", tokens: Sequence[int] | None = None, index: int = 0, **options: Any) -> None:
        self.tickets[index].put(answer.Delta(text, tuple(range(len(text)) if tokens is None else tokens), **options))

    async def next(self) -> Any:
        """The data of the next event."""
        __tracebackhide__ = True
        await self._is_generator()
        return data(await within(anext(self.events), "the next event comes as soon as there is something to say"))

    async def rest(self) -> list[Any]:
        """The data of all further events."""
        __tracebackhide__ = True

        await self._is_generator()

        async def read() -> list[Any]:
            return [data(event) async for event in self.events]

        return await within(read(), "the stream ends when all its tickets have ended")

    async def _is_generator(self) -> None:
        if inspect.isawaitable(self.events):  # a stub's, which has no `yield`: it raises what is to be done
            await self.events
            raise AssertionError("`stream_events` is an asynchronous generator: it yields one event after another")


def explain(error: BaseException) -> Any:
    return answer.ApiError(500, f"sorry: {error}", "server_error")


def data(event: bytes) -> Any:
    """What a client reads of an event: the JSON, or the text if it is none."""
    __tracebackhide__ = True
    assert isinstance(event, bytes), f"an event is bytes, and this is {type(event).__name__}"
    written = event.decode()
    assert written.endswith("\n\n"), f"an event ends with an empty line: {written!r}"
    lines = written.removesuffix("\n\n").split("\n")
    assert all(line.startswith("data: ") for line in lines), f"each line of an event is 'data: …': {written!r}"
    joined = "\n".join(line.removeprefix("data: ") for line in lines)
    return json.loads(joined) if joined.startswith("{") else joined


def logprob(letters: str, value: float = -0.5) -> Any:
    return answer.TokenLogprobs(token=letters, logprob=value, bytes=list(letters.encode()))


def pieces(events: list[Any], index: int = 0) -> list[str]:
    """The texts of one answer of a chat."""
    choices = [choice for event in events if isinstance(event, dict) for choice in event.get("choices", [])]
    return [one["delta"]["content"] for one in choices if one["index"] == index and one["delta"].get("content")]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("[DONE]", b"data: [DONE]\n\n"),
        ("two\nlines", b"data: two\ndata: lines\n\n"),
        ("a\r\nb\rc", b"data: a\ndata: b\ndata: c\n\n"),
        ("a\n", b"data: a\ndata: \n\n"),
        ("one\u2028line\x0b", "data: one\u2028line\x0b\n\n".encode()),
    ],
)
def test_task_4_sse(given: Any, expected: bytes) -> None:
    got = answer.sse(given)
    assert got == expected, f"an event is a `data: ` per line, then an empty line: {expected!r}, not {got!r}"


@pytest.mark.parametrize("given", [{"a": 1}, {"text": "two\nlines"}])
def test_task_4_sse_of_json(given: dict[str, Any]) -> None:
    got = answer.sse(given)
    assert re.fullmatch(rb"data: [ -~]+\n\n", got), f"JSON is one line of ASCII after `data: `, then an empty line: {got!r}"
    assert json.loads(got.removeprefix(b"data: ")) == given, f"the line is {given} as JSON: {got!r}"


def test_task_4_sse_of_a_model_and_of_any_text() -> None:
    usage = answer.Usage(prompt_tokens=1, completion_tokens=2, total_tokens=3)
    assert data(answer.sse(usage)) == usage.model_dump(), "a pydantic model is written as JSON"
    for text in ("grüße 😀", "half of one: \ud83d", "\u2028"):
        assert data(answer.sse({"text": text})) == {"text": text}, f"any text must get through, also {text!r}"


def test_task_4_a_chat() -> None:
    async def main() -> None:
        stream = Stream()
        for letter in "hey":
            stream.put(letter)
        stream.put("!", finish_reason="stop")
        events = await stream.rest()
        assert events[-1] == "[DONE]", f"a complete stream ends with [DONE], and this one with {events[-1]!r}"
        assert events[0]["choices"][0]["delta"].get("role") == "assistant", f"the first chunk tells the role: {events[0]}"
        assert pieces(events) == ["h", "e", "y", "!"], f"a chunk per piece of text, the last one included: {events}"
        for chunk in events[:-1]:
            assert {name: chunk[name] for name in HEAD} == HEAD, f"all chunks share id, model and created: {chunk}"
            assert chunk["object"] == "chat.completion.chunk"
            assert len(chunk["choices"]) == 1, f"a chunk is a piece of one answer: {chunk}"
            assert "usage" not in chunk, f"the usage was not asked for: {chunk}"
            assert chunk["choices"][0]["logprobs"] is None, f"log-probabilities were not asked for: {chunk}"
        reasons = [chunk["choices"][0]["finish_reason"] for chunk in events[:-1]]
        assert reasons == [None] * (len(reasons) - 1) + ["stop"], (
            f"the last chunk, and no other, tells why the answer has ended: {reasons}"
        )

    run(main)


def test_task_4_a_completion() -> None:
    async def main() -> None:
        stream = Stream(kind="completion")
        stream.put("he")
        stream.put("y", finish_reason="length")
        *chunks, done = await stream.rest()
        assert done == "[DONE]"
        assert {chunk["object"] for chunk in chunks} == {"text_completion"}
        texts = [chunk["choices"][0]["text"] for chunk in chunks]
        assert texts[0] == "he", f"a completion has no role, and begins with its text: {texts}"
        assert "".join(texts) == "hey"
        assert chunks[-1]["choices"][0]["finish_reason"] == "length"
        assert all("delta" not in chunk["choices"][0] for chunk in chunks), "`delta` is the form of chats"

    run(main)


def test_task_4_each_piece_comes_at_once() -> None:
    async def main() -> None:
        stream = Stream()
        first = await stream.next()
        assert first["choices"][0]["delta"]["role"] == "assistant", "the role is sent before there is any text"
        for letter in "abc":
            stream.put(letter)
            event = await stream.next()
            assert pieces([event]) == [letter], f"a piece is sent when it comes, and no later: {event}"
        stream.put(finish_reason="stop")
        *_, done = await stream.rest()
        assert done == "[DONE]"

    run(main)


def test_task_4_no_text_no_event() -> None:
    async def main() -> None:
        stream = Stream()
        stream.put("", [240])
        stream.put("", [159])
        stream.put("😀", [152, 128])
        stream.put("", [], finish_reason="stop")
        events = await stream.rest()
        assert pieces(events) == ["😀"]
        assert len(events) == 4, f"the role, the letter, the end and [DONE]; tokens without text make no event: {events}"

    run(main)


def test_task_4_usage_comes_last_and_has_no_choices() -> None:
    async def main() -> None:
        stream = Stream(include_usage=True)
        stream.put("he", [1])
        stream.put("", [2])
        stream.put("y", [3, 4], finish_reason="stop")
        *chunks, usage, done = await stream.rest()
        assert done == "[DONE]"
        assert usage["choices"] == [], f"the chunk with the usage has no choices: {usage}"
        assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 4, "total_tokens": 9}, (
            f"all tokens count, those without text too: {usage['usage']}"
        )
        assert {name: usage[name] for name in HEAD} == HEAD
        assert all(chunk["usage"] is None for chunk in chunks), "if the usage was asked for, it is null in all other chunks"

    run(main)


@pytest.mark.parametrize("kind", ["chat", "completion"])
def test_task_4_the_usage_of_several_answers(kind: str) -> None:
    async def main() -> None:
        stream = Stream(4, kind, include_usage=True, n=2)  # two prompts, two answers each
        for place, ticket in enumerate(stream.tickets):
            ticket.prompt_tokens = (5, 5, 8, 8)[place]
            stream.put("x", [1] * (place + 1), place, finish_reason="stop")
        *_, usage, _ = await stream.rest()
        assert usage["choices"] == []
        assert usage["usage"] == {"prompt_tokens": 13, "completion_tokens": 10, "total_tokens": 23}, (
            f"a prompt counts once, however many answers it has: {usage['usage']}"
        )

    run(main)


def test_task_4_answers_are_interleaved_as_they_come() -> None:
    async def main() -> None:
        stream = Stream(3)
        begun = [await stream.next() for _ in range(3)]
        assert sorted(event["choices"][0]["index"] for event in begun) == [0, 1, 2], f"each answer has its role: {begun}"
        for index, letter in [(2, "a"), (2, "b"), (0, "c"), (1, "d"), (2, "e")]:
            stream.put(letter, index=index)
            event = await stream.next()
            assert pieces([event], index) == [letter], f"no answer waits for another, and each piece has its index: {event}"
        stream.put("f", index=2, finish_reason="stop")
        assert pieces([await stream.next()], 2) == ["f"]
        end = await stream.next()
        assert (end["choices"][0]["index"], end["choices"][0]["finish_reason"]) == (2, "stop"), (
            f"an answer ends when it ends, though others go on: {end}"
        )
        stream.put("g", index=0, finish_reason="length")
        stream.put("h", index=1, finish_reason="stop")
        events = await stream.rest()
        assert (pieces(events, 0), pieces(events, 1), events[-1]) == (["g"], ["h"], "[DONE]")
        ends = {one["choices"][0]["index"]: one["choices"][0]["finish_reason"] for one in events[:-1]}
        assert ends == {0: "length", 1: "stop"}

    run(main)


def test_task_4_an_error_is_the_last_event() -> None:
    async def main() -> None:
        for before in ("", "hey"):
            stream = Stream(include_usage=True)
            for letter in before:
                stream.put(letter)
            stream.put("", error=RuntimeError("the device is lost"))
            events = await stream.rest()
            assert events[-1] == {
                "error": {"message": "sorry: the device is lost", "type": "server_error", "param": None, "code": None}
            }, f"the last event is the error, as `explain` puts it: {events[-1]}"
            assert "[DONE]" not in events, "[DONE] says that the answer is complete, and it is not"
            assert pieces(events) == list(before), "what came before the error has been sent"
            chunks = events[:-1]
            assert not any(chunk["choices"][0]["finish_reason"] for chunk in chunks), "an answer that broke off has no end"

    run(main)


def test_task_4_text_that_comes_with_an_error_is_sent() -> None:
    async def main() -> None:
        stream = Stream()
        stream.put("ab", error=RuntimeError("broken"))
        events = await stream.rest()
        assert pieces(events) == ["ab"], f"these tokens were computed rightly before it broke off: {events}"
        assert "error" in events[-1]

    run(main)


def test_task_4_an_error_of_one_answer_cancels_the_others() -> None:
    async def main() -> None:
        stream = Stream(3)
        stream.put("a", index=0, finish_reason="stop")
        stream.put("b", index=2)
        stream.put("", index=1, error=RuntimeError("broken"))
        events = await stream.rest()
        assert "error" in events[-1], f"the error is the last event: {events[-1]}"
        assert stream.given_up == [stream.tickets[2]], (
            "answers that have not ended are no longer read, so they are cancelled; those that have ended need not be"
        )

    run(main)


@pytest.mark.parametrize("read", [1, 2, 4])
def test_task_4_a_client_who_goes_cancels(read: int) -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        stream = Stream(2)
        stream.put("a", index=0)
        stream.put("b", index=0)
        stream.put("z", index=1, finish_reason="stop")
        for _ in range(read):
            await stream.next()
        await within(stream.events.aclose(), "a stream can be closed at any time")
        assert stream.given_up == [stream.tickets[0]], (
            f"closing the stream after {read} events cancels the answer that has not ended, and no other: {stream.given_up}"
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert asyncio.all_tasks() <= before, "whatever waited for the tickets is gone with the stream"

    run(main)


def test_task_4_a_reader_who_is_cancelled_cancels() -> None:
    async def main() -> None:
        before = asyncio.all_tasks()
        stream = Stream(2)
        reading = begin(stream.rest())
        await asyncio.sleep(0.01)  # it waits for a first token
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.sleep(0.01)
        assert stream.given_up == stream.tickets, (
            "a web framework cancels the task in which the stream is read: no reader is left"
        )
        assert asyncio.all_tasks() <= before, "whatever waited for the tickets is gone with the stream"

    run(main)


def test_task_4_a_stream_that_was_read_cancels_nothing() -> None:
    async def main() -> None:
        stream = Stream(2)
        for index in range(2):
            stream.put("a", index=index, finish_reason="stop")
        await stream.rest()
        assert not stream.given_up, "all answers have ended by themselves"

    run(main)


def test_task_4_logprobs_of_a_chat() -> None:
    async def main() -> None:
        stream = Stream()
        stream.put("", [1], logprobs=(logprob("h"),))
        stream.put("he", [2], logprobs=(logprob("e", -1.0),))
        stream.put("", [], finish_reason="stop")
        _, first, second, end, _ = await stream.rest()
        content = first["choices"][0]["logprobs"]["content"]
        assert [one["token"] for one in content] == ["h"], (
            f"a token whose text is held back is sent with its log-probability all the same: {first}"
        )
        assert [one["logprob"] for one in second["choices"][0]["logprobs"]["content"]] == [-1.0]
        assert pieces([first, second]) == ["he"]
        assert end["choices"][0]["logprobs"] is None, "no token, no log-probabilities"

    run(main)


def test_task_4_logprobs_of_completions_know_where_they_are() -> None:
    async def main() -> None:
        stream = Stream(2, "completion")
        parts = [[logprob("he")], [logprob("y"), logprob(" you")], [logprob("!")]]
        for part in parts:
            stream.put("".join(one.token for one in part), [1] * len(part), logprobs=tuple(part))
        stream.put("a", [1], 1, logprobs=(logprob("a"),))
        stream.put("b", [1], 1, logprobs=(logprob("b"),), finish_reason="stop")
        stream.put("", [], finish_reason="stop")
        *chunks, _ = await stream.rest()
        offsets: dict[int, list[int]] = {0: [], 1: []}
        for chunk in chunks:
            (choice,) = chunk["choices"]
            offsets[choice["index"]] += (choice["logprobs"] or {"text_offset": []})["text_offset"]
        assert offsets == {0: [0, 2, 3, 7], 1: [0, 1]}, (
            f"`text_offset` counts the letters of that answer before the token, over all chunks: {offsets}"
        )

    run(main)


def test_task_4_offsets_of_a_letter_in_parts() -> None:
    async def main() -> None:
        stream = Stream(1, "completion")
        for text, byte in zip(("", "é"), "é".encode(), strict=True):
            stream.put(text, [byte], logprobs=(answer.TokenLogprobs(token="?", logprob=-1.0, bytes=[byte]),))
        stream.put("x", [3], logprobs=(logprob("x"),))
        stream.put("", [], finish_reason="stop")
        *chunks, _, _ = await stream.rest()
        offsets = [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in chunks]
        assert offsets[-1] == [1], f"'é' is one letter, though it came in two tokens, so 'x' is at 1: {offsets}"

    run(main)
