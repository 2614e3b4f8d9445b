import json
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher

from tiny_llm_kit.course import task
from tiny_llm_kit.models.vocabulary import Vocabulary

from .answers import ApiError, TokenChance, TokenLogprobs


@task(week=3, day=6, number=2)
def compile_schema(schema: Mapping[str, Any], vocabulary: Vocabulary) -> LLMatcher:
    problem, matcher = "", None
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_pattern": r"[ \n]{1,4}"})
        matcher = LLMatcher(vocabulary.guidance, grammar, log_level=0)
    except ValueError as error:
        problem = str(error)
    else:
        problem = matcher.get_error()
    if matcher is None or problem:
        first = problem.splitlines()[0] if problem else "it can't be read"
        raise ApiError(400, f"response_format has a schema that can't be used: {first[:200]}", param="response_format")
    return matcher


class JsonGuide:
    @task(week=3, day=6, number=2)
    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        answer = list(answer)
        pairs = zip(self._consumed, answer, strict=False)
        common = len([*takewhile(lambda pair: pair[0] == pair[1], pairs)])
        if self._matcher.is_error() or not self._matcher.rollback(len(self._consumed) - common):
            self._matcher = self._grammar.deep_copy()
            common = 0
        taken = self._matcher.try_consume_tokens(answer[common:])
        self._consumed = answer[: common + taken]
        mask = self._matcher.compute_bitmask()
        return np.array([byte >> bit & 1 for byte in mask for bit in range(8)], dtype=bool)


class ClientSampler:
    @task(week=3, day=6, number=2)
    def __call__(self, logits: mx.array, tokens: Sequence[int | mx.array]) -> mx.array:
        scores = logits * 1
        for token, bias in self.logit_bias.items():
            scores[token] = scores[token] + mx.array(bias, dtype=logits.dtype)
        if self.guide is not None:
            may = self.guide.allowed([int(token) for token in list(tokens)[self.prompt_tokens :]])[: logits.size]
            may = np.pad(may, (0, logits.size - len(may)))
            scores = mx.where(mx.array(may), scores, mx.array(-mx.inf, dtype=scores.dtype))
        drawn = super().__call__(scores, tokens)
        if self.alternatives is None:
            return drawn
        own = logits.astype(mx.float32)
        own = own - mx.logsumexp(own)
        by_chance = mx.argpartition(own, -self.alternatives)[-self.alternatives :] if self.alternatives else mx.argsort(own)[:0]
        likeliest = mx.contiguous(by_chance) + mx.array(0, dtype=by_chance.dtype)
        record = _Record(drawn, own[drawn], likeliest, own[likeliest])
        mx.async_eval(record)
        self._records = {**self._records, len(tokens): record}
        return drawn

    @task(week=3, day=6, number=2)
    def logprobs_at(self, position: int, top: int | None = None) -> TokenLogprobs:
        try:
            drawn, logprob, others, their_logprobs = map(np.array, self._records[position])
        except KeyError:
            raise ValueError(f"position {position} was not recorded") from None
        order = np.argsort(-their_logprobs, kind="stable")
        chances = [
            TokenChance(
                token=self.vocabulary.text_of(int(token)),
                logprob=float(np.maximum(chance, LEAST_LOGPROB)),
                bytes=list(self.vocabulary.bytes_of(int(token))),
            )
            for token, chance in [(drawn, logprob), *zip(others[order], their_logprobs[order], strict=True)]
        ]
        if top is not None:
            del chances[1 + top :]
        return TokenLogprobs.model_validate({**dict(chances[0]), "top_logprobs": chances[1:]})

    @property
    @task(week=3, day=6, number=2)
    def error(self) -> str:
        if self.guide is None:
            return ""
        return self.guide.error
