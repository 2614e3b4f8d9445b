"""What clients are sent: OpenAI's answers, whole and in chunks, and its errors. The names of fields and objects are fixed.

An answer ends with "stop" or "length". A failure is an error, never a `finish_reason`.
"""

import codecs
import time
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field

from tiny_llm_kit.course import task

FinishReason = Literal["stop", "length"]


class ErrorDetail(BaseModel):
    """What went wrong, for people (`message`) and for programs: the kind, the parameter at fault, a short code."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class ErrorResponse(BaseModel):
    """The body of every unsuccessful answer, and the data of an error event in a stream."""

    error: ErrorDetail


class ApiError(Exception):
    """An error to tell a client.

    Args:
        status: the HTTP status.
        message: says what is wrong, names the value, and says how to fix it.
        type: "invalid_request_error" for what the client can fix, "server_error" and such for what it can't.
        param: the field of the body that is at fault.
        code: "model_not_found" and such.
    """

    def __init__(
        self,
        status: int,
        message: str,
        type: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.detail = ErrorDetail(message=message, type=type, param=param, code=code)

    @task(week=3, day=6, number=1)
    def as_json(self) -> dict[str, Any]:
        """`{"error": {"message": …, "type": …, "param": …, "code": …}}`, always with all four."""
        return ErrorResponse(error=self.detail).model_dump()


class Usage(BaseModel):
    """How many tokens a request had: the prompt's, counted once, and those of all its choices."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int

    @classmethod
    @task(week=3, day=6, number=1)
    def count(cls, prompt: int, completion: int) -> "Usage":
        """Usage with the sum of both."""
        return cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=prompt + completion)


class TokenChance(BaseModel):
    """A token, as text and as bytes, with the natural logarithm of its probability."""

    token: str
    logprob: float
    bytes: list[int]


class TokenLogprobs(TokenChance):
    """The token that was drawn, and the most likely ones at its place, the most likely first."""

    top_logprobs: list[TokenChance] = Field(default_factory=list)


class ChatLogprobs(BaseModel):
    """The form used in chats."""

    content: list[TokenLogprobs]
    refusal: None = None


class CompletionLogprobs(BaseModel):
    """The form used in completions: four lists with one entry per token."""

    tokens: list[str] = Field(default_factory=list)
    token_logprobs: list[float] = Field(default_factory=list)
    top_logprobs: list[dict[str, float]] = Field(default_factory=list)
    text_offset: list[int] = Field(default_factory=list)

    @classmethod
    @task(week=3, day=6, number=1)
    def of(cls, tokens: Sequence[TokenLogprobs], start: int = 0) -> "CompletionLogprobs":
        """Convert the new form to the old.

        `top_logprobs` always holds the drawn token, even if it is not among the most likely. `text_offset` counts the letters
        before a token; the parts of a letter that is spread over several tokens all have the offset where it begins.

        Args:
            start: how many letters of the answer come before the first of these tokens.
        """
        old, decoder = cls(), codecs.getincrementaldecoder("utf-8")("replace")
        for token in tokens:
            old.tokens.append(token.token)
            old.token_logprobs.append(token.logprob)
            old.top_logprobs.append({one.token: one.logprob for one in [*token.top_logprobs, token]})
            old.text_offset.append(start)
            start += len(decoder.decode(bytes(token.bytes)))
        return old


class CompletionChoice(BaseModel):
    """One answer to one prompt, or the next piece of it. Prompt p's answers have the indices p · n … p · n + n − 1."""

    index: int
    text: str
    logprobs: CompletionLogprobs | None = None
    finish_reason: FinishReason | None = None


class CompletionResponse(BaseModel):
    """The answer of `/v1/completions`, and each chunk of its stream: they have the same shape."""

    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None


class ChatMessage(BaseModel):
    """The assistant's turn."""

    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None


class ChatChoice(BaseModel):
    """One answer."""

    index: int
    message: ChatMessage
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason


class ChatCompletionResponse(BaseModel):
    """The answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[ChatChoice]
    usage: Usage


class ChatChunkChoice(BaseModel):
    """The next piece of an answer: `delta` has a role in the first one, then content, and nothing in the last."""

    index: int
    delta: dict[str, str]
    logprobs: ChatLogprobs | None = None
    finish_reason: FinishReason | None = None


class ChatCompletionChunk(BaseModel):
    """A chunk of the stream of `/v1/chat/completions`. The one with the usage has no choices."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int = Field(default_factory=lambda: int(time.time()))
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None


class TokenizeResponse(BaseModel):
    """The answer of `/tokenize`."""

    count: int
    max_model_len: int
    tokens: list[int]


class ModelCard(BaseModel):
    """A model that is served."""

    id: str
    object: Literal["model"] = "model"
    created: int = Field(default_factory=lambda: int(time.time()))
    owned_by: str = "tiny-llm"


class ModelList(BaseModel):
    """The answer of `/v1/models`."""

    object: Literal["list"] = "list"
    data: list[ModelCard]
