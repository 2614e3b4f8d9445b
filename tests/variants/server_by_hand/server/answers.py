import codecs
from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task


class ApiError:
    @task(week=3, day=6, number=1)
    def as_json(self) -> dict[str, Any]:
        return {"error": {name: getattr(self.detail, name) for name in ("message", "type", "param", "code")}}


class Usage:
    @classmethod
    @task(week=3, day=6, number=1)
    def count(cls, prompt: int, completion: int) -> "Usage":
        usage = cls(prompt_tokens=prompt, completion_tokens=completion, total_tokens=0)
        usage.total_tokens = usage.prompt_tokens + usage.completion_tokens
        return usage


class CompletionLogprobs:
    @classmethod
    @task(week=3, day=6, number=1)
    def of(cls, tokens: Sequence[TokenLogprobs], start: int = 0) -> "CompletionLogprobs":
        offsets, before = [], b""
        for token in tokens:
            offsets.append(start + len(codecs.getincrementaldecoder("utf-8")("replace").decode(before)))
            before += bytes(token.bytes)
        return cls(
            tokens=[token.token for token in tokens],
            token_logprobs=[token.logprob for token in tokens],
            top_logprobs=[{one.token: one.logprob for one in (token, *token.top_logprobs)} for token in tokens],
            text_offset=offsets,
        )
