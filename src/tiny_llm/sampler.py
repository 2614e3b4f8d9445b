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
    raise NotImplementedError("Week 1 Day 7, task 1: top-k. Read book/src/week1-07-sampling.md")


@task(week=1, day=7, number=2)
def top_p(logits: mx.array, p: float) -> mx.array:
    """Keep the smallest set of most likely tokens whose probabilities add up to at least p (arXiv 1904.09751).

    A token stays if the more likely ones before it have not reached p, so the first one always stays. Tokens that tie with the
    last one stay too.
    """
    raise NotImplementedError("Week 1 Day 7, task 2: top-p. Read book/src/week1-07-sampling.md")


@task(week=1, day=7, number=3)
def min_p(logits: mx.array, p: float) -> mx.array:
    """Keep tokens whose probability is at least p times that of the most likely one (arXiv 2407.01082)."""
    raise NotImplementedError("Week 1 Day 7, task 3: min-p. Read book/src/week1-07-sampling.md")


@task(week=1, day=7, number=4)
def repetition_penalty(logits: mx.array, seen: mx.array, penalty: float) -> mx.array:
    """Divide positive logits of seen tokens by the penalty, multiply negative ones: both become less likely.

    The idea is CTRL's (arXiv 1909.05858, section 4.1), which divides regardless of the sign.

    Args:
        seen: bool `(V,)`, true for tokens of the prompt and of the answer so far.
    """
    raise NotImplementedError("Week 1 Day 7, task 4: the repetition penalty. Read book/src/week1-07-sampling.md")


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
        raise NotImplementedError("Week 1 Day 7, task 5: a sampler with its own seed. Read book/src/week1-07-sampling.md")


@task(week=1, day=7, number=5)
def seen_tokens(tokens: Sequence[int | mx.array], vocab_size: int) -> mx.array:
    """Bool `(V,)`: true for the ids among `tokens`, which are as in `Sampler`."""
    raise NotImplementedError("Week 1 Day 7, task 5: a sampler with its own seed. Read book/src/week1-07-sampling.md")
