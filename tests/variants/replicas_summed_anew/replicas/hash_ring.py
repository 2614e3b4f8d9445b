from bisect import bisect_left, insort
from collections.abc import Sequence
from hashlib import blake2b

from tiny_llm_kit.course import task

from .routers import RoutedRequest


@task(week=3, day=7, number=2)
def stable_hash(data: bytes) -> int:
    return int(blake2b(data, digest_size=8).hexdigest(), 16)


@task(week=3, day=7, number=2)
def token_bytes(tokens: Sequence[int]) -> bytes:
    return "".join(f"{token};" for token in tokens).encode()


class HashRing:
    @task(week=3, day=7, number=2)
    def add(self, node: str) -> None:
        if node in self.nodes:
            raise ValueError(f"there is a node {node} already")
        self.nodes |= {node}
        for place in self._places_of(node):
            insort(self._places, place)

    @task(week=3, day=7, number=2)
    def remove(self, node: str) -> None:
        if node not in self.nodes:
            raise ValueError(f"there is no node {node}")
        self.nodes -= {node}
        for place in self._places_of(node):
            del self._places[bisect_left(self._places, place)]

    @task(week=3, day=7, number=2)
    def owner(self, key: bytes) -> str:
        if len(self.nodes) == 0:
            raise ValueError("nobody owns anything on an empty ring")
        at = bisect_left(self._places, stable_hash(key), key=lambda place: place[0])
        return self._places[at if at < len(self._places) else 0][1]

    @task(week=3, day=7, number=2)
    def ranked(self, key: bytes) -> list[str]:
        start = stable_hash(key)
        distances: dict[str, int] = {}
        for place, node in self._places:
            distance = (place - start) % 2**64
            distances[node] = min(distance, distances.get(node, distance))
        return sorted(distances, key=lambda node: (distances[node], node))

    def _places_of(self, node: str) -> list[tuple[int, str]]:
        return [(stable_hash(f"{node}#{number}".encode()), node) for number in range(self.virtual_nodes)]


class ConsistentHash:
    @task(week=3, day=7, number=2)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        for replica in self.ring.nodes ^ set(living):
            change = self.ring.add if replica in living else self.ring.remove
            change(replica)
        return self.ring.ranked(routing_key(request))


@task(week=3, day=7, number=2)
def routing_key(request: RoutedRequest) -> bytes:
    whose = f"of session {request.session}" if request.session else ""
    return whose.encode() or b"of prompt " + token_bytes(request.prompt[:PREFIX_TOKENS])
