"""Drafters guess the next tokens, so the model can check several in one step (Leviathan et al. 2023, arXiv 2211.17192).

A draft may be anything: it affects how fast an answer comes, never what it says.
"""

from collections.abc import Sequence
from typing import Protocol, cast

import mlx.core as mx

from tiny_llm_kit.course import task

from ..kv_cache import KvCache
from ..model import Model


class Drafter(Protocol):
    """Guesses how the tokens of one request continue."""

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """At most `count` tokens that may follow `tokens`, the prompt and the answer so far; fewer, or none, if it has no
        guess.

        `tokens` usually continues those of the last call, but need not.
        """


class NgramDrafter:
    """Guesses that the text repeats itself: what followed the last few tokens at their previous occurrence follows again.

    Prompt lookup decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding). It needs no second model, and is right
    wherever an answer quotes its prompt or itself: code, summaries, corrections. One drafter serves one request.

    Args:
        max_n, min_n: how many of the last tokens have to occur earlier; the largest number is tried first.
    Raises:
        ValueError: unless 1 ≤ min_n ≤ max_n.
    """

    def __init__(self, max_n: int = 3, min_n: int = 2) -> None:
        if not 1 <= min_n <= max_n:
            raise ValueError(f"min_n is {min_n} and max_n is {max_n}: they must be at least 1, and max_n not below min_n")
        self.max_n = max_n
        self.min_n = min_n
        self._follower: dict[tuple[int, ...], int] = {}  # by n-gram: position of the token after its latest occurrence
        self._known = 0  # number of tokens in the index
        self._tail: list[int] = []  # the last `max_n` of them

    @task(week=3, day=5, number=1)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """What followed the latest earlier occurrence of the last `max_n` tokens; if there is none, of one fewer, down to
        `min_n`.

        If what followed reaches the end of `tokens`, the text is periodic, and the draft keeps repeating the period.

        A call reads only the new tokens. If `tokens` does not continue those of the last call, the last known ones are
        different or missing; then all are indexed again.
        """
        self._index(tokens)
        if count < 1:
            return []
        for n in range(min(self.max_n, len(tokens)), self.min_n - 1, -1):
            place = self._follower.get(tuple(self._tail[-n:]))
            if place is not None:
                followed = tokens[place : place + count]
                return [followed[i % len(followed)] for i in range(count)]
        return []

    @task(week=3, day=5, number=1)
    def _index(self, tokens: Sequence[int]) -> None:
        """Enter the n-grams before each new token. The one at the end has no successor, so it never finds itself."""
        if list(tokens[max(self._known - self.max_n, 0) : self._known]) != self._tail:
            self._follower, self._known = {}, 0
        for place in range(self._known, len(tokens)):
            before = tokens[max(place - self.max_n, 0) : place]
            for n in range(self.min_n, len(before) + 1):
                self._follower[tuple(before[-n:])] = place
        self._known, self._tail = len(tokens), list(tokens[-self.max_n :])


class ModelDrafter:
    """Lets a smaller model with the same vocabulary continue greedily, with a dense cache of its own.

    Args:
        model: see `Model`. The cache is not shared: each request needs a drafter of its own.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._cache = [KvCache() for _ in range(model.config.num_layers)]
        self._computed: list[int] = []  # the tokens that all layers of the cache hold

    @task(week=3, day=5, number=6)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        """The `count` tokens with which the small model alone would continue; none if there are no `tokens`.

        What the cache holds from the last drafts is kept as far as it agrees with `tokens`. The last of `tokens` is always
        computed, since the first draft is drawn from its logits.
        """
        if count < 1 or not tokens:
            return []
        self._rewind(min(_common(self._computed, tokens), len(tokens) - 1))
        drafts: list[mx.array] = []
        new = mx.array([list(tokens[len(self._computed) :])])
        for _ in range(count):
            logits = self.model(new, self._cache[0].offset, self._cache, logits_to_keep=1)
            new = mx.argmax(logits, axis=-1)
            drafts.append(new)
        proposed = cast(list[int], mx.concatenate(drafts, axis=1)[0].tolist())
        self._computed = [*tokens, *proposed[:-1]]
        return proposed

    @task(week=3, day=5, number=6)
    def _rewind(self, length: int) -> None:
        """Keep the first `length` tokens. After a call that failed, layers may hold more tokens than are known, and not all the
        same number."""
        del self._computed[length:]
        for layer in self._cache:
            layer.rewind(layer.offset - length)


@task(week=3, day=5, number=6)
def _common(one: Sequence[int], other: Sequence[int]) -> int:
    """The length of the common prefix of two sequences."""
    pairs = zip(one, other, strict=False)
    return next((place for place, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))
