"""N-grams in a tree, the last token first; a small model that is asked from where two texts part."""

from collections.abc import Sequence
from itertools import cycle, islice, takewhile

import mlx.core as mx

from tiny_llm_kit.course import task


class NgramDrafter:
    @task(week=3, day=5, number=1)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        if count <= 0:
            return []  # what is new is entered by the next call
        if self._known == 0 or self._known > len(tokens) or self._end(tokens, self._known) != self._tail:
            self._known, self._tree = 0, Branch()
        for place in range(max(self._known, 1), len(tokens)):
            branch = self._tree
            for back in range(1, min(self.max_n, place) + 1):
                branch = branch.after.setdefault(tokens[place - back], Branch())
                branch.place = place
        self._known, self._tail = len(tokens), self._end(tokens, len(tokens))
        branch, place, depth = self._tree, None, 0
        for token in reversed(self._tail):
            branch, depth = branch.after.get(token), depth + 1
            if branch is None:
                break
            if depth >= self.min_n:
                place = branch.place
        return [] if place is None else list(islice(cycle(tokens[place : place + count]), count))

    def _end(self, tokens: Sequence[int], length: int) -> list[int]:
        return list(tokens[max(0, length - self.max_n) : length])


class Branch:
    """All n-grams with one end, and where the token behind the latest of them stands."""

    def __init__(self) -> None:
        self.after: dict[int, Branch] = {}
        self.place: int | None = None


class ModelDrafter:
    @task(week=3, day=5, number=6)
    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        if not tokens or count <= 0:
            return []
        both = takewhile(lambda pair: pair[0] == pair[1], zip(self._computed, tokens[:-1], strict=False))
        self._computed = [token for token, _ in both]
        for layer in self._cache:
            layer.rewind(max(0, layer.offset - len(self._computed)))
        said = [self._most_likely(mx.array([tokens[len(self._computed) :]]), len(self._computed))]
        for position in range(len(tokens), len(tokens) + count - 1):
            said.append(self._most_likely(said[-1][None], position))
        drafts = [int(token) for token in said]
        self._computed = (list(tokens) + drafts)[:-1]
        return drafts

    def _most_likely(self, tokens: mx.array, offset: int) -> mx.array:
        """`(1,)`, the token behind these."""
        return self.model(tokens, offset, self._cache, logits_to_keep=1)[0].argmax(axis=-1)
