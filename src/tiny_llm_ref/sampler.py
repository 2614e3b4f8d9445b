"""Sampling: how a token is drawn from the model's logits.

Every step takes logits `(V,)` and returns logits `(V,)`, with −inf for what is ruled out, so the steps can be chained.
"""

import math
from collections.abc import Callable, Sequence
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
        repetition_penalty: above 1, tokens that have already occurred become less likely; 1 is off.
        seed: below 2³². Two requests with the same seed, prompt and parameters draw the same tokens, whatever else is in the
            batch.
    Raises:
        ValueError: if a value is out of range, or is not a number.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        rules: list[tuple[str, type, Callable[[float], bool], str]] = [
            ("temperature", float, lambda t: t == 0 or 1e-5 <= t < math.inf, "0 (the most likely token), or from 1e-5 on"),
            ("top_k", int, lambda k: k >= 0, "a whole number from 0 on (0 keeps all tokens)"),
            ("top_p", float, lambda p: 0 < p <= 1, "above 0 and at most 1 (1 keeps all tokens)"),
            ("min_p", float, lambda p: 0 <= p <= 1, "between 0 and 1 (0 keeps all tokens)"),
            ("repetition_penalty", float, lambda p: 0 < p < math.inf, "above 0 (1 is no penalty)"),
            ("seed", int, lambda s: 0 <= s < 2**32, "a whole number from 0 to 4294967295"),
        ]
        for name, kind, allowed, remedy in rules:
            value = getattr(self, name)
            numeric = isinstance(value, int | kind) and not isinstance(value, bool)
            if not (numeric and allowed(value)):
                raise ValueError(f"{name} is {value!r}: it must be {remedy}")


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

    A token stays if the more likely ones before it have not reached p, so the first one always stays. Tokens that tie with the
    last one stay too.
    """
    if p >= 1:
        return logits
    ordered = -mx.sort(-logits, axis=-1)
    probabilities = mx.softmax(ordered, axis=-1)
    before = mx.cumsum(probabilities, axis=-1) - probabilities
    smallest_kept = mx.min(mx.where(before < p, ordered, ordered[..., :1]), axis=-1, keepdims=True)
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

    The idea is CTRL's (arXiv 1909.05858, section 4.1), which divides regardless of the sign.

    Args:
        seen: bool `(V,)`, true for tokens of the prompt and of the answer so far.
    """
    return mx.where(seen, mx.where(logits > 0, logits / penalty, logits * penalty), logits)


class Sampler:
    """Draws the tokens of one request, each as a function of the logits, the tokens before it, and the request's seed.

    A sampler remembers nothing: a token that was drawn and thrown away leaves no trace, and a neighbour in the batch can't
    change what is drawn. The order is: penalty, temperature, top-k, top-p, min-p, and the draw.

    `greedy` says whether it takes the token that the model scores highest: such a row does not need a draw of its own.
    """

    def __init__(self, params: SamplingParams) -> None:
        self.params = params
        self.greedy = params.temperature == 0 and params.repetition_penalty == 1

    @task(week=1, day=7, number=5)
    def __call__(self, logits: mx.array, tokens: Sequence[int | mx.array]) -> mx.array:
        """Logits `(V,)` to a token id, a scalar integer array. The token stays on the device: nothing is read here.

        Args:
            tokens: all tokens before this one, prompt and answer. Each is an id, or a scalar array that has not been read yet.
        """
        params = self.params
        if params.repetition_penalty != 1:
            logits = repetition_penalty(logits, seen_tokens(tokens, logits.shape[-1]), params.repetition_penalty)
        if params.temperature == 0:
            return mx.argmax(logits, axis=-1)
        logits = logits.astype(mx.float32)
        logits = top_k((logits - mx.max(logits)) / params.temperature, params.top_k)
        logits = min_p(top_p(logits, params.top_p), params.min_p)
        # A key is two 32-bit numbers, here seed and position: no two draws of a request share one.
        return mx.random.categorical(logits, key=mx.random.key((params.seed << 32) + len(tokens)))


@task(week=1, day=7, number=5)
def seen_tokens(tokens: Sequence[int | mx.array], vocab_size: int) -> mx.array:
    """Bool `(V,)`: true for the ids among `tokens`, which are as in `Sampler`."""
    seen = mx.zeros((vocab_size,), dtype=mx.bool_)
    known = [token for token in tokens if isinstance(token, int)]
    if known:
        seen[mx.array(known)] = True
    for unread in (token for token in tokens if isinstance(token, mx.array)):
        seen = seen | (mx.arange(vocab_size) == unread)
    return seen
