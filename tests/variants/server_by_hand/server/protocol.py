from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError, ValidationInfo, field_validator, model_validator

from tiny_llm_kit.course import task

from ..sampler import SamplingParams
from .answers import ApiError


@task(week=3, day=6, number=1)
def parse_body(kind: type[Body], body: bytes) -> Body:
    try:
        parsed = kind.model_validate_json(body)
    except ValidationError as error:
        refusal = validation_error(error.errors(include_url=False, include_context=False))
    else:
        return parsed
    raise refusal


@task(week=3, day=6, number=1)
def validation_error(errors: Sequence[Mapping[str, Any]]) -> ApiError:
    first = errors[0]
    path = ""
    for part in first["loc"]:
        if part in ("body", "[key]"):
            continue
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    rule = first["msg"]
    if rule.startswith("Value error, "):
        rule = rule[len("Value error, ") :]
    if path and first["type"] == "missing":
        message = f"the body must have {path}, which is missing"
    elif path:
        value = repr(first["input"])[:100]
        message = f"wrong value for {path} ({rule}): {value}"
    else:
        message = f"that is no body for this path: {rule}"
    return ApiError(400, message, param=path)


class Sent:
    @model_validator(mode="before")
    @classmethod
    @task(week=3, day=6, number=1)
    def without_nulls(cls, data: Any) -> Any:
        if isinstance(data, dict):
            data = dict(data)
            for name in [name for name in data if data[name] is None]:
                del data[name]
        return data


class Message:
    @task(week=3, day=6, number=1)
    def turn(self) -> dict[str, str]:
        return dict(role={"developer": "system"}.get(self.role, self.role), content=self.content)  # noqa: C408


class ResponseFormat:
    @model_validator(mode="after")
    @task(week=3, day=6, number=1)
    def has_schema(self) -> "ResponseFormat":
        match self.type, self.json_schema:
            case "json_schema", None:
                raise ValueError("the type json_schema needs a json_schema beside it")
        return self

    @property
    @task(week=3, day=6, number=1)
    def schema_wanted(self) -> dict[str, Any] | None:
        match self.type:
            case "json_object":
                return {"type": "object"}
            case "json_schema":
                return self.json_schema.schema_
            case _:
                return None


class GenerationRequest:
    @field_validator("ignore_eos")
    @classmethod
    @task(week=3, day=6, number=1)
    def ends_somehow(cls, ignore_eos: bool, info: ValidationInfo) -> bool:
        if "response_format" in info.data:
            as_json = info.data["response_format"].schema_wanted
            if ignore_eos and as_json is not None:
                raise ValueError("after JSON nothing but an EOS can come, so it can't be ignored")
        return ignore_eos

    @task(week=3, day=6, number=1)
    def answer_tokens(self, room: int) -> int:
        for wish in (self.max_completion_tokens, self.max_tokens, self.default_max_tokens):
            if wish is not None:
                return wish if wish < room else room
        return room

    @task(week=3, day=6, number=1)
    def sampling_params(self, choice: int = 0) -> SamplingParams:
        wishes = {name: getattr(self, name) for name in ("top_p", "min_p", "repetition_penalty", "temperature", "top_k")}
        if self.temperature < 1e-5:
            wishes["temperature"] = 0.0
        if self.top_k == -1:
            wishes["top_k"] = 0
        return SamplingParams(seed=(self.seed + choice) & 0xFFFFFFFF, **wishes)


class CompletionRequest:
    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        return None if self.logprobs is None else int(self.logprobs)


class ChatCompletionRequest:
    @field_validator("top_logprobs")
    @classmethod
    @task(week=3, day=6, number=1)
    def with_logprobs(cls, top_logprobs: int, info: ValidationInfo) -> int:
        if top_logprobs > 0 and info.data.get("logprobs", False) is False:
            raise ValueError("nothing is reported of any token unless logprobs is true")
        return top_logprobs

    @property
    @task(week=3, day=6, number=1)
    def alternatives(self) -> int | None:
        if not self.logprobs:
            return None
        return self.top_logprobs

    @task(week=3, day=6, number=1)
    def conversation(self) -> list[dict[str, str]]:
        turns = []
        for message in self.messages:
            turns.append(message.turn())
        return turns
