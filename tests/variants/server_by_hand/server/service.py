import asyncio
from collections.abc import Awaitable, Sequence
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from tiny_llm_kit.course import task

from ..paged.request import PagedRequest
from ..request import Request
from .answers import ApiError
from .protocol import ChatCompletionRequest, CompletionRequest
from .sampling import client_sampler, compile_schema
from .ticket import Ticket


@task(week=3, day=6, number=5)
async def unless_gone(receive: Receive, work: Awaitable[Result]) -> Result:
    working = asyncio.ensure_future(work)
    left = False

    async def watch() -> None:
        nonlocal left
        message = await receive()
        while message["type"] != "http.disconnect":
            message = await receive()
        left = True
        working.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await working
    except asyncio.CancelledError:
        if left:
            raise ClientDisconnect from None
        raise
    finally:
        watching.cancel()
        await asyncio.wait([watching])


class Service:
    @task(week=3, day=6, number=5)
    def check_model(self, name: str) -> None:
        if name and name != self.model_name:
            raise ApiError(404, f"{self.model_name} is served here, not {name}", param="model", code="model_not_found")

    @task(week=3, day=6, number=5)
    def encode(self, body: Body) -> list[list[int]]:
        try:
            match body:
                case CompletionRequest():
                    return [prompt if isinstance(prompt, list) else self.tokenizer.encode(prompt) for prompt in body.prompt]
                case ChatCompletionRequest():
                    return [self.tokenizer.apply_chat_template(body.conversation())]
                case _ if body.messages:
                    return [self.tokenizer.apply_chat_template([message.turn() for message in body.messages])]
                case _:
                    return [self.tokenizer.encode(body.prompt)]
        except ValueError as error:
            raise ApiError(400, f"no tokens can be made of this: {error}", param=_param_of(body)) from error

    @task(week=3, day=6, number=5)
    def check_prompt(self, body: Body, prompt: Sequence[int]) -> None:
        where = _param_of(body)
        if len(prompt) == 0:
            raise ApiError(400, "there is nothing in the prompt", param=where)
        for token in prompt:
            if token >= self.vocabulary.size:
                raise ApiError(400, f"{token} is no token of this model: they go up to {self.vocabulary.size - 1}", param=where)
        if len(prompt) > self.max_seq_len - 1:
            lengths = f"{self.max_seq_len} tokens is all there is room for, and the prompt alone has {len(prompt)}"
            raise ApiError(400, lengths, param=where, code="context_length_exceeded")

    @task(week=3, day=6, number=5)
    async def ask(self, body: Generation) -> list[Ticket]:
        self.check_model(body.model)
        prompts = await self.off_loop(self.encode, body)
        for prompt in prompts:
            self.check_prompt(body, prompt)
        grammar = None
        if body.response_format.schema_wanted is not None:
            grammar = await self.off_loop(compile_schema, body.response_format.schema_wanted, self.vocabulary)
        noted = _logprobs if body.alternatives is not None else None

        async def submit(prompt: list[int], choice: int) -> Ticket:
            return await self.engine.submit(lambda: self._make(body, prompt, choice, grammar), noted)

        submitting: list[asyncio.Task[Ticket]] = []
        try:
            async with asyncio.TaskGroup() as group:
                for prompt in prompts:
                    submitting += [group.create_task(submit(prompt, choice)) for choice in range(body.n)]
        except BaseException as error:
            for one in submitting:
                if one.done() and not one.cancelled() and one.exception() is None:
                    one.result().cancel()
            if not isinstance(error, BaseExceptionGroup):
                raise
            first = error.exceptions[0]
            if isinstance(first, ValueError):
                first = ApiError(400, f"the engine does not take it: {first}", param=_param_of(body))
            raise first from None
        return [one.result() for one in submitting]

    @task(week=3, day=6, number=5)
    def _make(self, body: Generation, prompt: list[int], choice: int, grammar: Any) -> Request:
        options: dict[str, Any] = {"stop": body.stop, "detokenizer": self.tokenizer.detokenizer()}
        if not body.ignore_eos:
            options["eos_token_ids"] = self.tokenizer.eos_token_ids
        if issubclass(self.request_type, PagedRequest):
            options |= {"priority": body.priority, "user": body.user}
        request = self.request_type(prompt, body.answer_tokens(self.max_seq_len - len(prompt)), **options)
        request.sampler = client_sampler(body, self.vocabulary, len(prompt), choice, grammar)
        return request
