from collections.abc import Iterable, Sequence
from hashlib import sha256
from itertools import takewhile

from tiny_llm_kit.course import task

from .hash_ring import token_bytes
from .routers import RoutedRequest


@task(week=3, day=7, number=3)
def block_keys(tokens: Sequence[int], block_size: int) -> list[bytes]:
    # A digest that goes on over the whole prompt holds all that was before.
    running, keys = sha256(), []
    for number in range(len(tokens) // block_size):
        running.update(token_bytes(tokens[number * block_size : (number + 1) * block_size]))
        keys.append(running.digest())
    return keys


class SeenBlocks:
    @task(week=3, day=7, number=3)
    def matched(self, keys: Sequence[bytes]) -> int:
        return sum(1 for _ in takewhile(self._keys.__contains__, keys))

    @task(week=3, day=7, number=3)
    def add(self, keys: Sequence[bytes]) -> None:
        for key in keys[: self.most][::-1]:
            self._keys.pop(key, None)
            self._keys[key] = None
        for _ in range(len(self._keys) - self.most):
            self._keys.popitem(last=False)


class PrefixAware:
    @task(week=3, day=7, number=3)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        by_load = self.least_loaded(living)
        if not by_load:
            return []
        matched = self.matched(request, by_load)
        best = max(by_load, key=matched.__getitem__)  # of equals, the first
        loads = [self.tokens(name) for name in by_load]
        load = self.tokens(best)
        if load * len(loads) > self.max_imbalance * sum(loads) and load - matched[best] > loads[0]:
            return by_load
        return sorted(by_load, key=matched.__getitem__, reverse=True)

    @task(week=3, day=7, number=3)
    def matched(self, request: RoutedRequest, replicas: Iterable[str]) -> dict[str, int]:
        blocks = dict.fromkeys(replicas, 0)
        still = [(name, self._seen[name]._keys) for name in blocks if name in self._seen]
        for key in self._keys_of(request):
            still = [(name, seen) for name, seen in still if key in seen]
            for name, _ in still:
                blocks[name] += 1
            if not still:
                break
        return {name: count * self.block_size for name, count in blocks.items()}

    @task(week=3, day=7, number=3)
    def work(self, request: RoutedRequest, replica: str) -> int:
        (there,) = self.matched(request, (replica,)).values()
        return len(request.prompt) - there + request.max_tokens

    @task(week=3, day=7, number=3)
    def started(self, request: RoutedRequest, replica: str) -> None:
        super().started(request, replica)
        if replica in self._dead:
            return
        if replica not in self._seen:
            self._seen[replica] = SeenBlocks(self.max_blocks)
        self._seen[replica].add(self._keys_of(request))

    @task(week=3, day=7, number=3)
    def died(self, replica: str) -> None:
        self._seen = {name: seen for name, seen in self._seen.items() if name != replica}
        super().died(replica)

    @task(week=3, day=7, number=3)
    def _keys_of(self, request: RoutedRequest) -> list[bytes]:
        if self._asked is None or self._asked.prompt is not request.prompt:
            self._keys = block_keys(request.prompt, self.block_size)
        self._asked = request
        return self._keys
