import json
from collections.abc import Mapping, Sequence
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher

from tiny_llm_kit.course import task
from tiny_llm_kit.models.vocabulary import Vocabulary

from ..sampler import Sampler
from .answers import ApiError, TokenChance, TokenLogprobs


@task(week=3, day=6, number=2)
def compile_schema(schema: Mapping[str, Any], vocabulary: Vocabulary) -> LLMatcher:
    def refusal(why: object) -> ApiError:
        return ApiError(400, f"no answer can follow this schema. {str(why)[:200]}", param="response_format")

    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_pattern": WHITESPACE})
        matcher = LLMatcher(vocabulary.guidance, grammar, log_level=0)
    except ValueError as error:
        raise refusal(error) from error
    if matcher.is_error():
        raise refusal(matcher.get_error())
    return matcher


class JsonGuide:
    @task(week=3, day=6, number=2)
    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        # It reads the whole answer each time, so that there is nothing to keep in step.
        self._matcher = self._grammar.deep_copy()
        self._matcher.try_consume_tokens(list(answer))
        words = np.frombuffer(self._matcher.compute_bitmask(), dtype="<u4")
        return (words[:, None] >> np.arange(32, dtype=np.uint32) & 1).astype(bool).reshape(-1)


class ClientSampler:
    @task(week=3, day=6, number=2)
    def __call__(self, logits: mx.array, tokens: Sequence[int | mx.array]) -> mx.array:
        scores = logits
        if self.logit_bias:
            extra = mx.zeros(logits.shape, dtype=logits.dtype)
            for token, bias in self.logit_bias.items():
                extra[token] = bias
            scores = scores + extra
        if self.guide is not None:
            answer = [int(token) for token in tokens[self.prompt_tokens :]]
            legal = np.flatnonzero(self.guide.allowed(answer))
            ruled_out = np.full(logits.size, -np.inf, dtype=np.float32)
            ruled_out[legal[legal < logits.size]] = 0
            scores = scores + mx.array(ruled_out)
        drawn = Sampler.__call__(self, scores, tokens)
        if self.alternatives is not None:
            shifted = logits.astype(mx.float32) - mx.max(logits).astype(mx.float32)
            own = shifted - mx.log(mx.sum(mx.exp(shifted)))
            likeliest = mx.take(mx.argsort(-own), mx.arange(self.alternatives))
            record = _Record(drawn, mx.take(own, drawn), likeliest, mx.take(own, likeliest))
            mx.async_eval(*record)
            self._records[len(tokens)] = record
        return drawn

    @task(week=3, day=6, number=2)
    def logprobs_at(self, position: int, top: int | None = None) -> TokenLogprobs:
        record = self._records.get(position)
        if record is None:
            raise ValueError(f"there is no record of position {position}: there are {sorted(self._records)}")
        count = record.top_tokens.size if top is None else min(top, record.top_tokens.size)
        others = [self._describe(record.top_tokens[place].item(), record.top_logprobs[place].item()) for place in range(count)]
        drawn = self._describe(record.token.item(), record.logprob.item())
        return TokenLogprobs(token=drawn.token, logprob=drawn.logprob, bytes=drawn.bytes, top_logprobs=others)

    @property
    @task(week=3, day=6, number=2)
    def error(self) -> str:
        return getattr(self.guide, "error", "")

    def _describe(self, token: Any, logprob: Any) -> TokenChance:
        if logprob < LEAST_LOGPROB:
            logprob = LEAST_LOGPROB
        return TokenChance(token=self.vocabulary.text_of(token), logprob=logprob, bytes=[*self.vocabulary.bytes_of(token)])
