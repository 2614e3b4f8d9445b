"""Consistent hashing: each key has an owner, and hardly any key moves when an owner comes or goes.

Karger et al., "Consistent Hashing and Random Trees", STOC 1997; with virtual nodes as in Dynamo (SOSP 2007, section 4.2).
"""

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from itertools import chain
from struct import pack

from tiny_llm_kit.course import task

from .routers import RoutedRequest, Router

PREFIX_TOKENS = 64


@task(week=3, day=7, number=2)
def stable_hash(data: bytes) -> int:
    """64 bits that are the same in every process and on every machine, which Python's `hash` of a string is not."""
    return int.from_bytes(blake2b(data, digest_size=8).digest(), "big")


@task(week=3, day=7, number=2)
def token_bytes(tokens: Sequence[int]) -> bytes:
    """Token ids as bytes: different ids give different bytes."""
    return pack(f"<{len(tokens)}q", *tokens)


class HashRing:
    """Nodes on a circle of 2⁶⁴ places, each at many of them. A key belongs to the first node at or after its own place.

    If a node goes, its keys go to the nodes that come next, and all others stay where they are; if it comes back, it takes its
    keys back. The places of a node are the `stable_hash`es of "node#0", "node#1", …, so every process makes the same ring.

    Args:
        virtual_nodes: places per node. With a single place, some nodes would own a large part of the circle and some hardly
            any; the standard deviation of a node's part is about 1 / √virtual_nodes of it.
    Raises:
        ValueError: if there is not at least one place.
    """

    def __init__(self, virtual_nodes: int = 100) -> None:
        if virtual_nodes < 1:
            raise ValueError(f"virtual_nodes is {virtual_nodes}: a node needs at least 1 place on the ring")
        self.virtual_nodes = virtual_nodes
        self.nodes: set[str] = set()
        self._places: list[tuple[int, str]] = []  # ascending

    @task(week=3, day=7, number=2)
    def add(self, node: str) -> None:
        """Put a node on the ring. ValueError if it is already there."""
        if node in self.nodes:
            raise ValueError(f"node {node!r} is on the ring already: remove it first, or choose another name")
        self.nodes.add(node)
        own = [(stable_hash(f"{node}#{number}".encode()), node) for number in range(self.virtual_nodes)]
        self._places = sorted(self._places + own)

    @task(week=3, day=7, number=2)
    def remove(self, node: str) -> None:
        """Take a node off the ring. ValueError if it is not there."""
        if node not in self.nodes:
            raise ValueError(f"node {node!r} is not on the ring, which has {sorted(self.nodes)}")
        self.nodes.remove(node)
        self._places = [place for place in self._places if place[1] != node]

    @task(week=3, day=7, number=2)
    def owner(self, key: bytes) -> str:
        """The node that owns a key. ValueError if the ring is empty."""
        if not self._places:
            raise ValueError("the ring has no node, so no node owns a key: add one")
        return self._places[self._behind(key) % len(self._places)][1]

    @task(week=3, day=7, number=2)
    def ranked(self, key: bytes) -> list[str]:
        """All nodes, in the order in which they would own the key if those before them were gone."""
        start, found = self._behind(key), dict[str, None]()
        for _, node in chain(self._places[start:], self._places[:start]):
            found[node] = None
            if len(found) == len(self.nodes):
                break
        return list(found)

    @task(week=3, day=7, number=2)
    def _behind(self, key: bytes) -> int:
        """The index of the first place at or after that of the key; the number of places if there is none."""
        return bisect_left(self._places, (stable_hash(key), ""))


class ConsistentHash(Router):
    """The same replica for the same session or, without one, for prompts that begin alike; loads do not matter.

    Similar requests find the keys and values of those before them. All routers agree without talking to each other.

    Args:
        virtual_nodes: see `HashRing`.
    """

    def __init__(self, virtual_nodes: int = 100) -> None:
        super().__init__()
        self.ring = HashRing(virtual_nodes)

    @task(week=3, day=7, number=2)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """The living replicas, in the order of the ring."""
        for replica in self.ring.nodes - set(living):
            self.ring.remove(replica)
        for replica in set(living) - self.ring.nodes:
            self.ring.add(replica)
        return self.ring.ranked(routing_key(request))


@task(week=3, day=7, number=2)
def routing_key(request: RoutedRequest) -> bytes:
    """The session if there is one, and otherwise the first `PREFIX_TOKENS` tokens of the prompt, or all if it is shorter."""
    if request.session:
        return b"session " + request.session.encode()
    return b"prompt " + token_bytes(request.prompt[:PREFIX_TOKENS])
