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
    raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")


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
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")

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
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=2)
    def logprobs_at(self, position: int, top: int | None = None) -> TokenLogprobs:
        """The token that was drawn with `position` tokens before it, prompt and answer, and the `top` most likely ones there.

        Log-probabilities are the model's own, before bias, mask, penalty and temperature: clients compare models with them.

        Args:
            top: at most `alternatives`; None: all of these.
        Raises:
            ValueError: if nothing was recorded there.
        """
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")

    @property
    @task(week=3, day=6, number=2)
    def error(self) -> str:
        """Why the answer can't be continued, in words; empty if it can. Such an answer must not end as if nothing had
        happened."""
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=2)
    def _biased(self, logits: mx.array) -> mx.array:
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")

    @task(week=3, day=6, number=2)
    def _chance(self, token: int, logprob: float) -> TokenChance:
        raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=2)
def _fitted(allowed: np.ndarray, vocab_size: int) -> mx.array:
    """Cut or padded to the model's vocabulary: tokens that the tokenizer does not know are not allowed."""
    raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")


@task(week=3, day=6, number=2)
def _record(logits: mx.array, token: mx.array, alternatives: int) -> _Record:
    """Start the device on it at once: an array that waits would keep all logits of its step in memory."""
    raise NotImplementedError("Week 3 Day 6, task 2: sampling for clients. Read book/src/week3-06-server.md")


def client_sampler(
    asked: GenerationRequest, vocabulary: Vocabulary, prompt_tokens: int, choice: int = 0, grammar: LLMatcher | None = None
) -> ClientSampler:
    """The sampler of choice 0 … n − 1 of a body; `grammar` is from its `schema_wanted`. Raises as `ClientSampler`."""
    return ClientSampler(
        asked.sampling_params(choice), vocabulary, prompt_tokens, asked.logit_bias, asked.alternatives, grammar
    )
