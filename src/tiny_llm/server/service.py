"""From a body to the requests of the engine, and from their tokens to an answer.

It knows no paths, no headers and no engine, only a thread that takes requests and gives tickets.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer
from tiny_llm_kit.models.vocabulary import Vocabulary

from ..paged.request import PagedRequest
from ..request import Request
from .answers import ApiError, TokenLogprobs
from .engine_thread import EngineThread
from .protocol import ChatCompletionRequest, CompletionRequest, TokenizeRequest
from .sampling import ClientSampler, client_sampler, compile_schema
from .ticket import Ticket

Generation = CompletionRequest | ChatCompletionRequest
Body = CompletionRequest | ChatCompletionRequest | TokenizeRequest
Result = TypeVar("Result")


@task(week=3, day=6, number=5)
async def unless_gone(receive: Receive, work: Awaitable[Result]) -> Result:
    """Do the work, unless the client leaves first: then stop it where it is, and wait until it has cleaned up.

    Args:
        receive: ASGI's. When the body has been read, the next message is `http.disconnect`, at the end of the connection.
    Raises:
        ClientDisconnect: if the client has left.
        BaseException: what the work raises.
    """
    raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")


class Service:
    """One model behind one engine.

    Args:
        engine: the thread of the engine.
        model_name: what clients call the model.
        tokenizer: the model's.
        max_seq_len: most tokens of a prompt and its answer, as in the engine.
        request_type: the kind of request that the engine serves.
        request_timeout: seconds for an answer.
    """

    def __init__(
        self,
        engine: EngineThread,
        model_name: str,
        tokenizer: Tokenizer,
        max_seq_len: int,
        request_type: type[Request] = PagedRequest,
        request_timeout: float = 600.0,
    ) -> None:
        self.engine = engine
        self.model_name = model_name
        self.tokenizer = tokenizer
        self.vocabulary = Vocabulary(tokenizer)
        self.max_seq_len = max_seq_len
        self.request_type = request_type
        self.request_timeout = request_timeout
        self._worker = ThreadPoolExecutor(1, "tokenizer")

    async def off_loop(self, work: Callable[..., Result], *arguments: Any) -> Result:
        """Do slow work outside the event loop, one thing after another."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work, *arguments)

    @task(week=3, day=6, number=5)
    def check_model(self, name: str) -> None:
        """ApiError 404, `model_not_found`, for any name other than `model_name`; no name means this model."""
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    def encode(self, body: Body) -> list[list[int]]:
        """The tokens of each prompt of a body; a conversation is one prompt, in the form of the model's chat template.

        Raises:
            ApiError: 400, for what the tokenizer refuses.
        """
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    def check_prompt(self, body: Body, prompt: Sequence[int]) -> None:
        """ApiError 400 for a prompt that is empty or leaves no room for an answer. The engine refuses unknown tokens.

        No room has the code `context_length_exceeded`, and names both lengths: clients use it to shorten the conversation.
        """
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    async def ask(self, body: Generation) -> list[Ticket]:
        """Submit a request for each choice: prompt p has p · n … p · n + n − 1. Either all of them are taken, or none.

        Raises:
            ApiError: 400 for what is wrong with the body, even if only the engine notices; 404 for its model.
            Exception: as `EngineThread.submit`.
        """
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=5)
    def _make(self, body: Generation, prompt: list[int], choice: int, grammar: Any) -> Request:
        """One request, made in the engine's thread."""
        raise NotImplementedError("Week 3 Day 6, task 5: the app. Read book/src/week3-06-server.md")


def _logprobs(request: Request, position: int) -> TokenLogprobs:
    assert isinstance(request.sampler, ClientSampler)
    return request.sampler.logprobs_at(position)


def _param_of(body: Body) -> str:
    """The field that holds what the model reads."""
    return "prompt" if isinstance(body, CompletionRequest) or not body.messages else "messages"
