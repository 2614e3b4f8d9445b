"""Sampling: how a token is drawn from the model's logits.

Every step takes logits `(V,)` and returns logits `(V,)`, with −inf for what is ruled out, so the steps can be chained.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import mlx.core as mx

from tiny_llm_kit.course import task


@dataclass(frozen=True)
class SamplingParams:
    """How one request wants its tokens drawn.

    Args:
        temperature: divides the logits; 0 takes the most likely token.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the most likely tokens that together reach this probability; 1 keeps all.
        min_p: keep tokens at least this fraction as likely as the most likely one; 0 keeps all.
        repetition_penalty: above 1, tokens that occurred already become less likely; 1 is off.
        seed: two requests with the same seed, prompt and parameters draw the same tokens, in any company.
    Raises:
        ValueError: if a value is out of range.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules = [
            ("temperature", self.temperature >= 0, "at least 0 (0 takes the most likely token)"),
            ("top_k", self.top_k >= 0, "at least 0 (0 keeps all tokens)"),
            ("top_p", 0 < self.top_p <= 1, "above 0 and at most 1 (1 keeps all tokens)"),
            ("min_p", 0 <= self.min_p <= 1, "between 0 and 1 (0 keeps all tokens)"),
            ("repetition_penalty", self.repetition_penalty > 0, "above 0 (1 is no penalty)"),
            ("seed", self.seed >= 0, "at least 0"),
        ]
        for name, valid, remedy in rules:
            if not valid:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be {remedy}")


@task(week=1, day=7, number=1)
def top_k(logits: mx.array, k: int) -> mx.array:
    """Rule out all but the k largest logits; tokens that tie with the k-th stay (arXiv 1805.04833).

    0 keeps all, and so does a k as large as the vocabulary.
    """
    if not 0 < k < logits.shape[-1]:
        return logits
    smallest_kept = mx.min(mx.topk(logits, k, axis=-1), axis=-1, keepdims=True)
    return mx.where(logits >= smallest_kept, logits, -mx.inf)


@task(week=1, day=7, number=2)
def top_p(logits: mx.array, p: float) -> mx.array:
    """Keep the smallest set of most likely tokens whose probabilities add up to at least p (arXiv 1904.09751).

    A token stays if those before it, from the most likely on, have not reached p: so the first one always stays. Tokens that
    tie with the last one stay too.
    """
    if p >= 1:
        return logits
    ordered = -mx.sort(-logits, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    smallest_kept = mx.min(mx.where(before < p, ordered, mx.inf), axis=-1, keepdims=True)
    return mx.where(logits >= smallest_kept, logits, -mx.inf)


@task(week=1, day=7, number=3)
def min_p(logits: mx.array, p: float) -> mx.array:
    """Keep tokens whose probability is at least p times that of the most likely one (arXiv 2407.01082)."""
    if p <= 0:
        return logits
    smallest_kept = mx.max(logits, axis=-1, keepdims=True) + mx.log(mx.array(p))
    return mx.where(logits >= smallest_kept, logits, -mx.inf)


@task(week=1, day=7, number=4)
def repetition_penalty(logits: mx.array, seen: mx.array, penalty: float) -> mx.array:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones: both become less likely.

    The idea is CTRL's (arXiv 1909.05858, section 4.1), which divides whatever the sign.

    Args:
        seen: bool `(V,)`, true for tokens of the prompt and of the answer so far.
    """
    return mx.where(seen, mx.where(logits > 0, logits / penalty, logits * penalty), logits)


class Sampler:
    """Draws the tokens of one request; its state is its own, so a neighbour in the batch can't change what it draws.

    Penalty first, then temperature, top-k, top-p, min-p, and a draw.

    `greedy` tells whether it takes the most likely token as the model scores it: then a row can do without its own draw.

    Args:
        params: how to draw.
        prompt: token ids that count as seen.
    """

    def __init__(self, params: SamplingParams, prompt: Sequence[int] = ()) -> None:
        self.params = params
        self.prompt = prompt
        self.key = mx.random.key(params.seed)
        self.seen: mx.array | None = None
        self.greedy = params.temperature == 0 and params.repetition_penalty == 1

    @task(week=1, day=7, number=5)
    def __call__(self, logits: mx.array) -> mx.array:
        """Logits `(V,)` to a token id, a scalar integer array. The token stays on the device: nothing is read here."""
        params = self.params
        if params.repetition_penalty != 1:
            logits = repetition_penalty(logits, self._seen(logits.shape[-1]), params.repetition_penalty)
        if params.temperature == 0:
            token = mx.argmax(logits, axis=-1)
        else:
            logits = logits.astype(mx.float32)
            logits = top_k((logits - mx.max(logits)) / params.temperature, params.top_k)
            logits = min_p(top_p(logits, params.top_p), params.min_p)
            self.key, key = mx.random.split(self.key)
            token = mx.random.categorical(logits, key=key)
        if params.repetition_penalty != 1:
            self.seen = self._seen(logits.shape[-1]) | (mx.arange(logits.shape[-1]) == token)
        return token

    @task(week=1, day=7, number=5)
    def _seen(self, vocab_size: int) -> mx.array:
        """Bool `(V,)`: the prompt's tokens and those drawn. Made when first needed: only the logits tell V."""
        if self.seen is None:
            self.seen = mx.zeros((vocab_size,), dtype=mx.bool_)
            if self.prompt:
                self.seen[mx.array(list(self.prompt))] = True
        return self.seen
