"""The app answers what the engine says: whole, in streams, for several choices, in the forms of both endpoints."""

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest

from answer import answer
from asgi_client import Exchange, ask
from served_toy import MODEL, TOKENIZER, Served, served, text_alone
from support import ToyModel
from tiny_llm_kit.models.tiny_random import ByteTokenizer

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
HELLO = [{"role": "user", "content": "Hello there"}]


def completion(prompt: Any = "Once upon", max_tokens: int = 6, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0, **more}


def chat(max_tokens: int = 6, **more: Any) -> dict[str, Any]:
    return {"model": MODEL, "messages": HELLO, "max_tokens": max_tokens, "temperature": 0, **more}


def ask_all(serving: Served, *bodies: dict[str, Any]) -> list[Any]:
    """The answers to these, sent at the same moment."""

    async def main() -> Sequence[Exchange]:
        return await asyncio.gather(*(ask(serving.app, CHAT if "messages" in body else COMPLETIONS, body) for body in bodies))

    exchanges = asyncio.run(main())
    for exchange in exchanges:
        assert exchange.status == 200, f"a valid body was answered {exchange.status}: {exchange.body!r:.300}"
    return [
        exchange if exchange.headers["content-type"].startswith("text/event-stream") else exchange.json()
        for exchange in exchanges
    ]


def texts(answer: Any) -> list[str]:
    """The texts of a completion's choices, in the order of their indices."""
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    assert [choice["index"] for choice in choices] == list(range(len(choices))), "the choices are numbered from 0 on"
    return [choice["text"] for choice in choices]


def streamed(exchange: Exchange, index: int = 0) -> str:
    """The text of one choice of a stream."""
    pieces = []
    for event in exchange.events():
        for choice in event.get("choices", ()):
            if choice["index"] == index:
                pieces.append(choice["text"] if "text" in choice else choice["delta"].get("content", ""))
    return "".join(pieces)


def test_task_5_a_completion_is_the_text_that_the_model_says_alone(toy: ToyModel) -> None:
    with served(toy) as serving:
        (answer,) = ask_all(serving, completion())
    assert texts(answer) == [text_alone(toy, "Once upon", 6)], "the answer to the prompt, as it is: no chat template here"
    assert answer["choices"][0]["finish_reason"] == "length"
    assert answer["object"] == "text_completion"
    assert answer["model"] == MODEL
    assert answer["usage"] == {"prompt_tokens": 9, "completion_tokens": 6, "total_tokens": 15}, "see Usage.count"


def test_task_5_a_chat_is_asked_by_the_chat_template(toy: ToyModel) -> None:
    with served(toy) as serving:
        (answer,) = ask_all(serving, chat())
    prompt = TOKENIZER.apply_chat_template(HELLO)
    (choice,) = answer["choices"]
    assert choice["message"]["content"] == text_alone(toy, prompt, 6), (
        "what the tokenizer's chat template makes of the messages"
    )
    assert choice["message"]["role"] == "assistant"
    assert choice["finish_reason"] == "length"
    assert answer["object"] == "chat.completion"
    assert answer["usage"]["prompt_tokens"] == len(prompt), "the tokens of the template count, too"


def test_task_5_a_chat_is_the_whole_conversation(toy: ToyModel) -> None:
    turns = [("system", "Be brief"), ("user", "Hi"), ("assistant", "Hello"), ("user", "Go on")]
    messages = [{"role": role, "content": content} for role, content in turns]
    with served(toy) as serving:
        (answer,) = ask_all(serving, chat(messages=messages))
    expected = text_alone(toy, TOKENIZER.apply_chat_template(messages), 6)
    assert answer["choices"][0]["message"]["content"] == expected, "a model reads all turns, and remembers none"


def test_task_5_ids_tell_answers_apart(toy: ToyModel) -> None:
    with served(toy) as serving:
        first, second = ask_all(serving, completion(), completion())
    assert first["id"] != second["id"], "each answer has an id of its own"


def test_task_5_the_model_may_be_left_out(toy: ToyModel) -> None:
    body = completion()
    del body["model"]
    with served(toy) as serving:
        (answer,) = ask_all(serving, body)
    assert answer["model"] == MODEL, "there is but one, so no name means that one"


def test_task_5_prompts_may_be_tokens(toy: ToyModel) -> None:
    tokens = TOKENIZER.encode("Once upon")
    with served(toy) as serving:
        (answer,) = ask_all(serving, completion(tokens))
    assert texts(answer) == [text_alone(toy, tokens, 6)], "token ids are the prompt as it is"


def test_task_5_several_prompts_are_answered_in_their_order(toy: ToyModel) -> None:
    prompts = ["Once upon", "In a hole", "Call me"]
    with served(toy) as serving:
        (answer,) = ask_all(serving, completion(prompts))
    assert texts(answer) == [text_alone(toy, prompt, 6) for prompt in prompts], "choice p answers prompt p"
    assert answer["usage"] == {"prompt_tokens": 9 + 9 + 7, "completion_tokens": 18, "total_tokens": 43}, "of all prompts"


def test_task_5_n_choices_are_n_requests_with_seeds_of_their_own(toy: ToyModel) -> None:
    body = completion(temperature=2.0, seed=7, max_tokens=8)
    with served(toy) as serving:
        three, *ones = ask_all(serving, {**body, "n": 3}, *({**body, "seed": 7 + choice} for choice in range(3)))
    assert texts(three) == [texts(one)[0] for one in ones], "choice i is what a request with seed + i gets alone"
    assert len(set(texts(three))) == 3, "n choices that are all the same are of no use"
    assert three["usage"]["prompt_tokens"] == 9, "the client has sent one prompt"


def test_task_5_choices_of_several_prompts_stand_prompt_by_prompt(toy: ToyModel) -> None:
    with served(toy, max_num_seqs=8) as serving:
        (answer,) = ask_all(serving, completion(["Once upon", "In a hole"], n=2))
    first, second = (text_alone(toy, prompt, 6) for prompt in ("Once upon", "In a hole"))
    assert texts(answer) == [first, first, second, second], "prompt p has the choices p · n … p · n + n − 1"


@pytest.mark.parametrize("body", [completion(stream=True), chat(stream=True)], ids=["completions", "chat"])
def test_task_5_a_stream_says_what_a_whole_answer_says(toy: ToyModel, body: dict[str, Any]) -> None:
    with served(toy) as serving:
        whole, stream = ask_all(serving, {**body, "stream": False}, body)
    (choice,) = whole["choices"]
    assert streamed(stream) == (choice["text"] if "text" in choice else choice["message"]["content"])
    assert stream.data()[-1] == "[DONE]", "a stream that has succeeded ends with [DONE]"
    ends = [choice["finish_reason"] for event in stream.events() for choice in event["choices"] if choice["finish_reason"]]
    assert ends == ["length"], "one chunk says how the choice ended"
    assert {event["id"] for event in stream.events()} == {stream.events()[0]["id"]}, "all chunks have the id of the answer"
    assert not any(event.get("usage") for event in stream.events()), "the usage was not asked for"


@pytest.mark.parametrize(
    ("body", "kind"), [(completion(stream=True), "text_completion"), (chat(stream=True), "chat.completion.chunk")]
)
def test_task_5_chunks_have_the_form_of_their_endpoint(toy: ToyModel, body: dict[str, Any], kind: str) -> None:
    with served(toy) as serving:
        (stream,) = ask_all(serving, body)
    assert {event["object"] for event in stream.events()} == {kind}, "ChatChunks for chats, CompletionChunks for completions"


def test_task_5_a_stream_has_a_last_chunk_with_the_usage_if_asked(toy: ToyModel) -> None:
    with served(toy) as serving:
        (stream,) = ask_all(serving, completion(stream=True, n=2, stream_options={"include_usage": True}))
    last = stream.events()[-1]
    assert last["choices"] == [], "the chunk of the usage has no choices"
    assert last["usage"] == {"prompt_tokens": 9, "completion_tokens": 12, "total_tokens": 21}


def test_task_5_a_stream_of_n_choices_has_them_all(toy: ToyModel) -> None:
    with served(toy) as serving:
        whole, stream = ask_all(
            serving, completion(n=3, seed=1, temperature=1), completion(n=3, seed=1, temperature=1, stream=True)
        )
    assert [streamed(stream, index) for index in range(3)] == texts(whole), (
        "each choice of a stream bears its index, and has the same seed as in a whole answer"
    )


def test_task_5_a_stream_comes_token_by_token(toy: ToyModel) -> None:
    async def main(serving: Served) -> None:
        async with Exchange(serving.app, COMPLETIONS, completion(max_tokens=100, stream=True)) as exchange:
            await exchange.until(b"data: ")
            assert not exchange.complete, "the first event comes when there is a first token, not when there are all"
            assert exchange.headers["content-type"].startswith("text/event-stream")
            assert "no-store" in exchange.headers.get("cache-control", ""), (
                "a proxy may keep an answer and send it later, unless `cache-control: no-store` forbids it"
            )

    with served(toy) as serving:
        asyncio.run(main(serving))


def test_task_5_stop_strings_and_max_tokens_reach_the_engine(toy: ToyModel) -> None:
    text = text_alone(toy, "Once upon", 12)
    with served(toy) as serving:
        (answer,) = ask_all(serving, completion(max_tokens=12, stop=[text[5:7]]))
    assert texts(answer) == [text[: text.index(text[5:7])]], "the answer ends before the stop string"
    assert answer["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize("options", [{"max_seq_len": 40}, {"app": {"max_seq_len": 40}}], ids=["of the engine", "of the app"])
def test_task_5_without_max_tokens_a_chat_may_use_all_the_room(toy: ToyModel, options: dict[str, Any]) -> None:
    body = chat()
    del body["max_tokens"]
    with served(toy, **options) as serving:
        (answer,) = ask_all(serving, body)
    prompt = len(TOKENIZER.apply_chat_template(HELLO))
    assert answer["usage"]["completion_tokens"] == 40 - prompt, "as long as max_seq_len leaves room: see answer_tokens"


def test_task_5_priority_and_user_reach_the_engine(toy: ToyModel) -> None:
    seen: list[tuple[int, str]] = []
    with served(toy) as serving:
        submit = serving.engine.submit

        def note(request: Any) -> Any:
            seen.append((request.priority, request.user))
            return submit(request)

        serving.engine.submit = note
        ask_all(serving, completion(priority=-3, user="ada"), chat(priority=2, user="bob"))
    assert sorted(seen) == [(-3, "ada"), (2, "bob")], (
        f"the scheduler orders requests by `priority` and `user`, so `_make` hands both on: the engine was given {seen}"
    )


def test_task_5_what_is_asked_of_sampling_reaches_the_engine(toy: ToyModel) -> None:
    with served(toy) as serving:
        biased, plain = ask_all(serving, completion(logit_bias={"65": 100}, logprobs=2), chat(logprobs=True, top_logprobs=3))
    assert texts(biased) == ["A" * 6], "a bias of 100 on one token leaves no other"
    assert len(biased["choices"][0]["logprobs"]["tokens"]) == 6, "a completion has the logprobs of completions"
    entries = plain["choices"][0]["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries) == plain["choices"][0]["message"]["content"]
    assert [len(entry["top_logprobs"]) for entry in entries] == [3] * 6, "a chat has those of chats"


def test_task_5_a_json_schema_is_followed(toy: ToyModel) -> None:
    schema = {"type": "object", "properties": {"yes": {"type": "boolean"}}, "required": ["yes"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    with served(toy) as serving:
        (answer,) = ask_all(serving, chat(max_tokens=60, response_format=form))
    text = answer["choices"][0]["message"]["content"]
    assert "".join(text.split()) in ('{"yes":true}', '{"yes":false}'), f"the answer must follow the schema: {text!r}"
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_task_5_requests_of_every_kind_share_a_batch(toy: ToyModel) -> None:
    kinds = [
        completion(max_tokens=30),
        completion(max_tokens=30, temperature=1.0, seed=3),
        completion(max_tokens=30, repetition_penalty=1.3),
        completion(max_tokens=30, logprobs=1, logit_bias={"65": 1}),
    ]

    async def main(serving: Served) -> None:
        serving.model.gate.clear()
        async with asyncio.TaskGroup() as tasks:
            for body in kinds:
                tasks.create_task(ask(serving.app, COMPLETIONS, body))
            everybody = lambda: serving.thread.num_waiting + len(serving.engine.running) >= len(kinds)  # noqa: E731
            await serving.until(everybody, "all requests should be submitted")
            serving.model.gate.set()

    with served(toy) as serving:
        asyncio.run(main(serving))
        together = sum(active == len(kinds) for active in serving.steps)
    assert together >= 20, f"a seed, a penalty or a bias must not keep a request out of the batch: {serving.steps}"


def test_task_5_models_are_listed(toy: ToyModel) -> None:
    with served(toy) as serving:
        exchange = asyncio.run(ask(serving.app, "/v1/models"))
    assert exchange.status == 200
    assert [model["id"] for model in exchange.json()["data"]] == [MODEL], "clients look here for what they may ask for"
    assert exchange.json()["object"] == "list"


def test_task_5_tokenize_counts_as_completions_and_chats_do(toy: ToyModel) -> None:
    async def main(serving: Served) -> tuple[Any, Any]:
        text = await ask(serving.app, "/tokenize", {"prompt": "Once upon"})
        messages = await ask(serving.app, "/tokenize", {"messages": HELLO})
        return text.json(), messages.json()

    with served(toy) as serving:
        text, messages = asyncio.run(main(serving))
    assert text == {"count": 9, "tokens": TOKENIZER.encode("Once upon"), "max_model_len": 128}, (
        "a text is counted as a completion's prompt is"
    )
    assert messages["tokens"] == TOKENIZER.apply_chat_template(HELLO), "messages are counted with the chat template around them"


class _Watched(ByteTokenizer):
    """Remembers in which threads it was asked for tokens."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def encode(self, text: str) -> list[int]:
        self.threads.append(threading.get_ident())
        return super().encode(text)


@pytest.mark.parametrize("body", [completion(), chat()], ids=["completions", "chat"])
def test_task_5_tokens_are_counted_outside_of_the_event_loop(
    toy: ToyModel, body: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    watched = _Watched()
    monkeypatch.setattr("served_toy.TOKENIZER", watched)
    with served(toy) as serving:
        ask_all(serving, body)
    assert watched.threads, "the app was given a tokenizer and should use it"
    assert threading.get_ident() not in watched.threads, (
        "a megabyte of text takes a tokenizer about a second, in which the event loop would be blocked: use Service.off_loop"
    )


def test_task_5_a_schema_is_compiled_outside_of_the_event_loop(toy: ToyModel, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled_in = []
    names = answer.Service.ask.__globals__
    compile_schema = names["compile_schema"]

    def watched(*args: Any) -> Any:
        compiled_in.append(threading.get_ident())
        return compile_schema(*args)

    monkeypatch.setitem(names, "compile_schema", watched)
    with served(toy) as serving:
        ask_all(serving, completion(response_format={"type": "json_object"}))
    assert threading.get_ident() not in compiled_in, (
        "a schema may take a second to compile, in which the event loop would be blocked: use Service.off_loop"
    )


def test_task_5_each_choice_has_a_detokenizer_of_its_own(toy: ToyModel) -> None:
    with served(toy) as serving:
        requests = []
        submit = serving.engine.submit

        def watched(request: Any) -> Any:
            requests.append(request)
            return submit(request)

        serving.engine.submit = watched
        ask_all(serving, completion(n=3))
    assert len({id(request.detokenizer) for request in requests}) == 3, (
        "a detokenizer remembers the beginning of a letter: shared, it would put it into another request's answer"
    )
