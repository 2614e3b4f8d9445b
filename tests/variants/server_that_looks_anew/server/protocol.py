from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from tiny_llm_kit.course import task

from ..sampler import SamplingParams
from .answers import ApiError


@task(week=3, day=6, number=1)
def parse_body(kind: type[Body], body: bytes) -> Body:
    errors: Sequence[Mapping[str, Any]]
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors()[:1]
    raise validation_error(errors)


@task(week=3, day=6, number=1)
def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    error = next(iter(errors))
    steps = ["[%d]" % step if isinstance(step, int) else "." + step for step in error["loc"] if step not in {"body", "[key]"}]  # noqa: UP031
    param = "".join(steps).lstrip(".")
    _, _, rule = ("Value error, " + error["msg"]).rpartition("Value error, ")
    if not steps:
        return ApiError(400, f"this body is wrong as a whole: {rule}")
    what = "it is missing" if error["type"] == "missing" else f"{rule}, and not {repr(error['input'])[:100]}"
    return ApiError(400, f"{param}: {what}", param=param)


class Sent:
    @model_validator(mode="before")
    @classmethod
    @task(week=3, day=6, number=1)
    def without_nulls(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kept = {}
        for name in data:
            if data[name] is not None:
                kept[name] = data[name]
        return kept


class Message:
    @task(week=3, day=6, number=1)
    def turn(self) -> dict[str, str]:
        turn = {name: getattr(self, name) for name in ("role", "content")}
        if turn["role"] == "developer":
            turn["role"] = "system"
        return turn


class ResponseFormat:
    @model_validator(mode="after")
    @task(week=3, day=6, number=1)
    def has_schema(self) -> "ResponseFormat":
        if self.json_schema is None and self.type.endswith("schema"):
            raise ValueError("a json_schema must say which one")
        return self

    @property
    @task(week=3, day=6, number=1)
    def schema_wanted(self) -> dict[str, Any] | None:
        wanted: dict[str, Any] = {"text": None, "json_object": {"type": "object"}}
        if self.type in wanted:
            return wanted[self.type]
        return self.json_schema.schema_


class GenerationRequest:
    @field_validator("ignore_eos")
    @classmethod
    @task(week=3, day=6, number=1)
    def ends_somehow(cls, ignore_eos: bool, info: ValidationInfo) -> bool:
        if not ignore_eos:
            return ignore_eos
        format_ = info.data.get("response_format")
        if format_ and format_.type != "text":
            raise ValueError("JSON has an end, which must not be ignored")
        return ignore_eos

    @task(week=3, day=6, number=1)
    def answer_tokens(self, room: int) -> int:
        wish = self.default_max_tokens
        if self.max_tokens is not None:
            wish = self.max_tokens
        if self.max_completion_tokens is not None:
            wish = self.max_completion_tokens
        return room if wish is None else min(room, wish)

    @task(week=3, day=6, number=1)
    def sampling_params(self, choice: int = 0) -> SamplingParams:
        tiny = abs(self.temperature) < 1e-5
        return SamplingParams(
            0.0 if tiny else self.temperature,
            0 if self.top_k < 0 else self.top_k,
            self.top_p,
            self.min_p,
            self.repetition_penalty,
            divmod(self.seed + choice, 1 << 32)[1],
        )


class CompletionRequest:
    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        if self.logprobs is not None:
            return self.logprobs
        return None


class ChatCompletionRequest:
    @field_validator("top_logprobs")
    @classmethod
    @task(week=3, day=6, number=1)
    def with_logprobs(cls, top_logprobs: int, info: ValidationInfo) -> int:
        if info.data.get("logprobs") is not True and top_logprobs != 0:
            raise ValueError("the likeliest tokens come along with logprobs: true only")
        return top_logprobs

    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        return {True: self.top_logprobs, False: None}[self.logprobs]

    @task(week=3, day=6, number=1)
    def conversation(self) -> list[dict[str, str]]:
        return list(map(Message.turn, self.messages))
