import codecs
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from tiny_llm_kit.course import task


class ApiError:
    @task(week=3, day=6, number=1)
    def as_json(self) -> dict[str, Any]:
        return dict(error=self.detail.model_dump(mode="json"))  # noqa: C408


class Usage:
    @classmethod
    @task(week=3, day=6, number=1)
    def count(cls, prompt: int, completion: int) -> "Usage":
        return cls.model_validate(
            {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": sum((prompt, completion))}
        )


class CompletionLogprobs:
    @classmethod
    @task(week=3, day=6, number=1)
    def of(cls, tokens: Sequence[TokenLogprobs], start: int = 0) -> "CompletionLogprobs":
        decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        letters = [len(decode(bytes(token.bytes))) for token in tokens]
        likeliest = [{one.token: one.logprob for one in token.top_logprobs} for token in tokens]
        for token, tops in zip(tokens, likeliest, strict=True):
            tops[token.token] = token.logprob
        return cls.model_validate(
            {
                "tokens": [token.token for token in tokens],
                "token_logprobs": [token.logprob for token in tokens],
                "top_logprobs": likeliest,
                "text_offset": list(accumulate(letters, initial=start))[:-1],
            }
        )
