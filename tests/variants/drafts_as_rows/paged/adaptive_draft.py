"""A request's past is a list of what was right and judged, the latest first; tiles are cut by counting places."""

from collections import Counter
from collections.abc import Sequence

from tiny_llm_kit.course import task

FORGOTTEN = 400  # updates: 0.9 ** 400 is nothing


class AdaptiveDraft:
    @task(week=3, day=5, number=4)
    def length(self, rows: int) -> int:
        past = self._past()
        right, judged = (sum(pair[i] * MEMORY**age for age, pair in enumerate(past)) for i in (0, 1))
        cost = self.token_cost * rows
        worth = sum((right / judged) ** k > cost for k in range(1, self.most + 1))
        if worth == 0 and cost < 1:
            self._refused += 1
            if self._refused == RETRY:
                self._refused = 0
                past[:] = [(right / judged, 1.0)]
                return 1
        return worth

    @task(week=3, day=5, number=4)
    def update(self, proposed: int, accepted: int) -> None:
        if accepted not in range(proposed + 1):
            raise ValueError(f"accepted is {accepted}: it can be 0 to {proposed}, as many as were proposed")
        if proposed > 0:
            past = self._past()
            past.insert(0, (accepted, min(accepted + 1, proposed)))
            del past[FORGOTTEN:]

    def _past(self) -> list[tuple[float, float]]:
        if not hasattr(self, "_pairs"):
            self._pairs: list[tuple[float, float]] = [PRIOR]
        return self._pairs


@task(week=3, day=5, number=4)
def whole_tiles(planned: int, lengths: Sequence[int]) -> list[int]:
    # A token and its place in its draft: those that stand furthest behind go first.
    places = sorted((place, owner) for owner, length in enumerate(lengths) for place in range(length))
    begun = -(-planned // TILE) * TILE - planned  # places left beside planned tokens
    rest = (len(places) - begun) % TILE
    if len(places) > begun and 0 < rest <= TILE // 2:
        del places[-rest:]
    left = Counter(owner for _, owner in places)
    return [left[owner] for owner in range(len(lengths))]
