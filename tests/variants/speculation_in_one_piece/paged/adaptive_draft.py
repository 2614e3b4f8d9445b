"""The length of a draft from logarithms, and a heap that gives up the longest one's last token."""

import heapq
from collections.abc import Sequence
from math import ceil, inf, log

from tiny_llm_kit.course import task


class AdaptiveDraft:
    @task(week=3, day=5, number=4)
    def length(self, rows: int) -> int:
        price = rows * self.token_cost
        if price >= 1:
            return 0
        share = self._accepted / self._judged
        if share > price:
            # share ** k > price, and both logarithms are negative
            bound = inf if price == 0 or share == 1 else log(price) / log(share)
            return self.most if bound > self.most else ceil(bound) - 1
        self._refused = (self._refused + 1) % RETRY
        if self._refused:
            return 0
        self._judged, self._accepted = 1.0, share
        return 1

    @task(week=3, day=5, number=4)
    def update(self, proposed: int, accepted: int) -> None:
        if accepted < 0 or accepted > proposed:
            raise ValueError(f"no more than the {proposed} that were proposed, and no less than 0, can be right: {accepted}")
        if proposed == 0:
            return
        wrong = MEMORY * (self._judged - self._accepted) + min(1, proposed - accepted)
        self._accepted = MEMORY * self._accepted + accepted
        self._judged = self._accepted + wrong


@task(week=3, day=5, number=4)
def whole_tiles(planned: int, lengths: Sequence[int]) -> list[int]:
    total = planned + sum(lengths)
    full = total // TILE * TILE
    heap = [(-length, owner) for owner, length in enumerate(lengths)]
    if full >= planned and total - full <= TILE / 2:
        heapq.heapify(heap)
        for _ in range(total - full):
            heapq.heapreplace(heap, (heap[0][0] + 1, heap[0][1]))
    return [-length for length, _ in sorted(heap, key=lambda item: item[1])]
