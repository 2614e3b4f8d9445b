"""What clients send: the bodies of OpenAI's completions and chat completions, as real clients write them.

It knows nothing about engines, tokenizers or HTTP. What clients are sent is in `answers`. Sources: OpenAI's API reference, and
the fields that vLLM adds.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, Field, ValidationError, ValidationInfo, field_validator, model_validator

from tiny_llm_kit.course import task

from ..sampler import SamplingParams
from .answers import ApiError
from .fields import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    MAX_MESSAGES,
    MAX_TEXT,
    MAX_TOKENS,
    Biases,
    Content,
    Flag,
    Name,
    Number,
    Prompts,
    Stops,
    Whole,
    refused,
)

DEFAULT_COMPLETION_TOKENS = 16

Body = TypeVar("Body", bound=BaseModel)


@task(week=3, day=6, number=1)
def parse_body(kind: type[Body], body: bytes) -> Body:
    """Read a body: a `CompletionRequest`, a `ChatCompletionRequest` or a `TokenizeRequest`.

    Raises:
        ApiError: 400, for what is not JSON or breaks a rule.
    """
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=1)
def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    """The answer to a body that pydantic refuses: the first of its errors, with status 400.

    `param` is the path to the value (`messages[1].content`); the message names it, the value, and the rule that it breaks.

    Args:
        errors: from `ValidationError.errors()`, or FastAPI's `RequestValidationError.errors()`, whose paths begin with "body".
    """
    raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class Sent(BaseModel):
    """What a client sent. A field that is null gets its default; unknown fields are ignored."""

    @model_validator(mode="before")
    @classmethod
    @task(week=3, day=6, number=1)
    def without_nulls(cls, data: Any) -> Any:
        """Leave out fields that are null, so they get their defaults. It does so at this level only: a null inside a JSON
        schema, say, stays."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class Message(Sent):
    """One turn of a conversation. An assistant's content may be null."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Content = ""
    tool_calls: Annotated[Any, refused([])] = None
    function_call: Annotated[Any, refused()] = None

    @task(week=3, day=6, number=1)
    def turn(self) -> dict[str, str]:
        """In the form of a chat template; none of them knows OpenAI's new name for the system role."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class StreamOptions(Sent):
    """`include_usage`: one more chunk at the end, without choices, that says how many tokens there were."""

    include_usage: Flag = False


class JsonSchema(Sent):
    """A schema and its name. `strict` makes no difference: the answer always follows the schema."""

    name: Name = ""
    schema_: dict[str, Any] = Field(alias="schema", default_factory=dict)


class ResponseFormat(Sent):
    """Any text, any JSON object, or JSON that follows a schema."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JsonSchema | None = None

    @model_validator(mode="after")
    @task(week=3, day=6, number=1)
    def has_schema(self) -> "ResponseFormat":
        """Refuse the type `json_schema` without one."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")

    @property
    @task(week=3, day=6, number=1)
    def schema_wanted(self) -> dict[str, Any] | None:
        """The JSON schema that the answer must follow; None if it may be any text."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class GenerationRequest(Sent):
    """What completions and chats have in common. `model` may be left out, since there is only one."""

    model: Name = ""
    max_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1, le=MAX_TOKENS)] | None = None
    n: Annotated[Whole, Field(ge=1, le=MAX_CHOICES)] = 1
    stop: Stops = Field(default_factory=list)
    stream: Flag = False
    stream_options: StreamOptions = Field(default_factory=StreamOptions)
    user: Name = ""

    temperature: Annotated[Number, Field(ge=0, le=2)] = 1.0
    top_p: Annotated[Number, Field(gt=0, le=1)] = 1.0
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**64)] = Field(default_factory=lambda: secrets.randbits(32))
    logit_bias: Biases = Field(default_factory=dict)
    response_format: ResponseFormat = Field(default_factory=ResponseFormat)

    # vLLM's. −1 is its other way to say that all tokens are kept.
    top_k: Annotated[Whole, Field(ge=-1, lt=2**31)] = 0
    min_p: Annotated[Number, Field(ge=0, le=1)] = 0.0
    repetition_penalty: Annotated[Number, Field(gt=0, le=10)] = 1.0
    ignore_eos: Flag = False
    priority: Annotated[Whole, Field(ge=-(2**31), lt=2**31)] = 0

    # If these were ignored, the answer would look right and not be what was asked for.
    tools: Annotated[Any, refused([])] = None
    tool_choice: Annotated[Any, refused("none")] = None
    functions: Annotated[Any, refused([])] = None
    function_call: Annotated[Any, refused("none")] = None
    presence_penalty: Annotated[Any, refused(0)] = None
    frequency_penalty: Annotated[Any, refused(0)] = None

    @field_validator("ignore_eos")
    @classmethod
    @task(week=3, day=6, number=1)
    def ends_somehow(cls, ignore_eos: bool, info: ValidationInfo) -> bool:
        """Refuse `ignore_eos` with a JSON schema: when the value is complete, nothing but an EOS can follow."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")

    @property
    def default_max_tokens(self) -> int | None:
        """How long an answer may be if the client does not say; None: as long as there is room."""
        return None

    @property
    def alternatives(self) -> int | None:
        """How many of the most likely tokens to report alongside each token's own log-probability; None: no
        log-probabilities."""
        raise NotImplementedError(f"{type(self).__name__} does not say which log-probabilities it wants")

    @task(week=3, day=6, number=1)
    def answer_tokens(self, room: int) -> int:
        """How many tokens the answer may have: `max_completion_tokens`, which takes precedence over `max_tokens`, and that over
        the default; never more than there is room for."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=1)
    def sampling_params(self, choice: int = 0) -> SamplingParams:
        """How choice 0 … n − 1 is drawn: each with a seed of its own, or all n would be the same.

        OpenAI's seeds have 64 bits and ours 32: they are taken modulo 2³². A temperature too small to divide by is 0.
        """
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class CompletionRequest(GenerationRequest):
    """The body of `/v1/completions`. `logprobs` is a number here."""

    prompt: Prompts
    logprobs: Annotated[Whole, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    echo: Annotated[Any, refused(False)] = None
    suffix: Annotated[Any, refused("")] = None
    best_of: Annotated[Any, refused(1)] = None

    @property
    def default_max_tokens(self) -> int:
        """As in OpenAI's API and in vLLM."""
        return DEFAULT_COMPLETION_TOKENS

    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        """See `GenerationRequest`. 0 wants each token's own log-probability, and no others."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class ChatCompletionRequest(GenerationRequest):
    """The body of `/v1/chat/completions`. `logprobs` is a switch here, and `top_logprobs` the number."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    logprobs: Flag = False
    top_logprobs: Annotated[Whole, Field(ge=0, le=MAX_LOGPROBS)] = 0

    @field_validator("top_logprobs")
    @classmethod
    @task(week=3, day=6, number=1)
    def with_logprobs(cls, top_logprobs: int, info: ValidationInfo) -> int:
        """Refuse a number above 0 without the switch."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")

    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        """See `GenerationRequest`."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=1)
    def conversation(self) -> list[dict[str, str]]:
        """The messages, for `Tokenizer.apply_chat_template`."""
        raise NotImplementedError("Week 3 Day 6, task 1: what clients send. Read book/src/week3-06-server.md")


class TokenizeRequest(Sent):
    """The body of `/tokenize`, which is vLLM's: a text, or a conversation."""

    model: Name = ""
    prompt: Annotated[str, Field(max_length=MAX_TEXT)] = ""
    messages: Annotated[list[Message], Field(max_length=MAX_MESSAGES)] = Field(default_factory=list)
