"""Sampling for clients: a bias per token, log-probabilities, and answers that follow a JSON schema.

A request's `sampler` may be replaced by a `ClientSampler` before it is submitted, in either engine. Each row has a sampler of
its own anyway, so such requests share a batch with all others, whose tokens don't change.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, cast

import mlx.core as mx
import numpy as np
from llguidance import LLMatcher

from tiny_llm_kit.course import task
from tiny_llm_kit.models.vocabulary import Vocabulary

from ..sampler import Sampler, SamplingParams
from .answers import ApiError, TokenChance, TokenLogprobs
from .protocol import GenerationRequest

LEAST_LOGPROB = -9999.0
"""Stands for anything lower, since JSON has no −inf; as in OpenAI's API."""

WHITESPACE = r"[ \n]{1,9}"
"""The limit on white space between JSON tokens. Any amount is legal, and small models can't stop."""


@task(week=3, day=6, number=2)
def compile_schema(schema: Mapping[str, Any], vocabulary: Vocabulary) -> LLMatcher:
    """Compile a JSON schema into what a `JsonGuide` follows. This can take a second, so it must not run in an event loop.

    Raises:
        ApiError: 400, for a schema that is invalid, that nothing can satisfy, or that asks for more than is implemented.
    """
    try:
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), overrides={"whitespace_pattern": WHITESPACE})
        matcher = LLMatcher(vocabulary.guidance, grammar, log_level=0)
        problem = matcher.get_error()
    except ValueError as error:  # nested too deeply, say
        problem = str(error)
    if problem:
        reason = " ".join(problem.split())
        raise ApiError(400, f"the JSON schema can't be followed: {reason:.300}", param="response_format")
    return matcher


class JsonGuide:
    """Says which tokens may come next in one answer.

    It is a function of the previous tokens: what it remembers only saves reading them again. So it makes no difference if
    tokens are drawn and thrown away, or if a request is preempted.

    Args:
        grammar: from `compile_schema`; it is copied, so many answers can share it.
    """

    def __init__(self, grammar: LLMatcher) -> None:
        self._grammar = grammar
        self._matcher = grammar.deep_copy()
        self._consumed: list[int] = []

    @task(week=3, day=6, number=2)
    def allowed(self, answer: Sequence[int]) -> np.ndarray:
        """Bool `(V,)`: the tokens that may follow these, where V is the tokenizer's. When the value is complete, only EOS may.

        After a token that was not allowed the result means nothing: such an answer has been thrown away already.
        """
        if self._matcher.is_error():  # it can't leave that state, which may be from an answer that was thrown away
            self._matcher, self._consumed = self._grammar.deep_copy(), []
        same = 0
        for before, token in zip(self._consumed, answer, strict=False):
            if before != token:
                break
            same += 1
        self._matcher.rollback(len(self._consumed) - same)
        new = list(answer[same:])
        self._consumed[same:] = new[: self._matcher.try_consume_tokens(new)]
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        return np.unpackbits(bits, bitorder="little").astype(bool)

    @property
    def error(self) -> str:
        """Why it had to give up in the last call, in words; empty if it did not: a schema can be too complicated for an answer.

        Then it allows EOS only.
        """
        return self._matcher.get_error().partition("\n")[0]


class _Record(NamedTuple):
    """What was drawn at a position: arrays that have not been read."""

    token: mx.array
    logprob: mx.array
    top_tokens: mx.array
    top_logprobs: mx.array


class ClientSampler(Sampler):
    """A `Sampler` with the options that clients may ask for. The bias comes first, then the mask of the schema, then the rest
    as in `Sampler`.

    What it records is filed by position, and a draw that was thrown away is overwritten by the one that counts.

    Args:
        params: see `Sampler`.
        vocabulary: of the model's tokenizer.
        prompt_tokens: how many tokens come before the answer.
        logit_bias: added to the logits of these tokens, before anything else.
        alternatives: how many of the most likely tokens to record at each position; None records nothing.
        grammar: from `compile_schema`, if the answer has to be JSON.
    Raises:
        ApiError: 400, for a bias on a token that does not exist.
    """

    def __init__(
        self,
        params: SamplingParams,
        vocabulary: Vocabulary,
        prompt_tokens: int,
        logit_bias: Mapping[int, float] | None = None,
        alternatives: int | None = None,
        grammar: LLMatcher | None = None,
    ) -> None:
        super().__init__(params)
        self.vocabulary = vocabulary
        self.prompt_tokens = prompt_tokens
        self.logit_bias = dict(logit_bias or {})
        self.alternatives = alternatives
        self.guide = JsonGuide(grammar) if grammar is not None else None
        self.greedy = self.greedy and not self.logit_bias and alternatives is None and self.guide is None
        self._records: dict[int, _Record] = {}
        if unknown := [token for token in self.logit_bias if not 0 <= token < vocabulary.size]:
            raise ApiError(
                400, f"logit_bias has token {unknown[0]}, and the model knows 0 to {vocabulary.size - 1}", param="logit_bias"
            )

    @task(week=3, day=6, number=2)
    def __call__(self, logits: mx.array, tokens: Sequence[int | mx.array]) -> mx.array:
        """As `Sampler`. A guided answer needs its last token, and waits for it; no other does."""
        scores = self._biased(logits)
        if self.guide is not None:
            allowed = self.guide.allowed([int(token) for token in tokens[self.prompt_tokens :]])
            scores = mx.where(_fitted(allowed, logits.size), scores, -mx.inf)
        token = super().__call__(scores, tokens)
        if self.alternatives is not None:
            self._records[len(tokens)] = _record(logits, token, self.alternatives)
        return token

    @task(week=3, day=6, number=2)
    def logprobs_at(self, position: int, top: int | None = None) -> TokenLogprobs:
        """The token that was drawn with `position` tokens before it, prompt and answer, and the `top` most likely ones there.

        Log-probabilities are the model's own, before bias, mask, penalty and temperature: clients compare models with them.

        Args:
            top: at most `alternatives`; None: all of these.
        Raises:
            ValueError: if nothing was recorded there.
        """
        if position not in self._records:
            raise ValueError(f"no log-probabilities were recorded at position {position}")
        record = self._records[position]
        found = zip(cast(list[int], record.top_tokens.tolist()), cast(list[float], record.top_logprobs.tolist()), strict=True)
        best = sorted(found, key=lambda one: -one[1])[:top]
        drawn = self._chance(int(record.token), float(record.logprob))
        return TokenLogprobs(**drawn.model_dump(), top_logprobs=[self._chance(*one) for one in best])

    @property
    @task(week=3, day=6, number=2)
    def error(self) -> str:
        """Why the answer can't be continued, in words; empty if it can. Such an answer must not end as if nothing had
        happened."""
        return self.guide.error if self.guide is not None else ""

    @task(week=3, day=6, number=2)
    def _biased(self, logits: mx.array) -> mx.array:
        if not self.logit_bias:
            return logits
        tokens, biases = mx.array(list(self.logit_bias)), mx.array(list(self.logit_bias.values()), dtype=logits.dtype)
        return logits.at[tokens].add(biases)

    @task(week=3, day=6, number=2)
    def _chance(self, token: int, logprob: float) -> TokenChance:
        return TokenChance(
            token=self.vocabulary.text_of(token),
            logprob=max(logprob, LEAST_LOGPROB),
            bytes=list(self.vocabulary.bytes_of(token)),
        )


@task(week=3, day=6, number=2)
def _fitted(allowed: np.ndarray, vocab_size: int) -> mx.array:
    """Cut or padded to the model's vocabulary: tokens that the tokenizer does not know are not allowed."""
    fitted = np.zeros(vocab_size, dtype=bool)
    size = min(vocab_size, len(allowed))
    fitted[:size] = allowed[:size]
    return mx.array(fitted)


@task(week=3, day=6, number=2)
def _record(logits: mx.array, token: mx.array, alternatives: int) -> _Record:
    """Start the device on it at once: an array that waits would keep all logits of its step in memory."""
    logprobs = logits.astype(mx.float32) - mx.logsumexp(logits.astype(mx.float32))
    top = mx.argpartition(-logprobs, kth=alternatives)[:alternatives] if alternatives else mx.zeros((0,), dtype=mx.uint32)
    record = _Record(token, logprobs[token], top + 0, logprobs[top])  # not a view, which would keep an entry for every token
    mx.async_eval(record)
    return record


def client_sampler(
    asked: GenerationRequest, vocabulary: Vocabulary, prompt_tokens: int, choice: int = 0, grammar: LLMatcher | None = None
) -> ClientSampler:
    """The sampler of choice 0 … n − 1 of a body; `grammar` is from its `schema_wanted`. Raises as `ClientSampler`."""
    return ClientSampler(
        asked.sampling_params(choice), vocabulary, prompt_tokens, asked.logit_bias, asked.alternatives, grammar
    )
