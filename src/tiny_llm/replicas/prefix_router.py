"""Routing by what replicas have in their prefix caches, as far as the router knows: it remembers what it has sent where.

The routers of SGLang and vLLM do this with a tree of the texts; here it is a set of hashes per replica. A hash collision, or a
block that the replica has evicted, costs some time but never a wrong answer: the replica compares tokens itself.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from hashlib import blake2b

from tiny_llm_kit.course import task

from .hash_ring import token_bytes
from .routers import RoutedRequest, Router


@task(week=3, day=7, number=3)
def block_keys(tokens: Sequence[int], block_size: int) -> list[bytes]:
    """A key for each full block of a sequence, made from its tokens and the key of the previous block.

    So the keys of two sequences are equal exactly as far as their blocks are.
    """
    raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")


class SeenBlocks:
    """The keys of the blocks that a replica was last sent. What was sent longest ago is forgotten first.

    Args:
        most: how many keys are kept.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._keys: OrderedDict[bytes, None] = OrderedDict()  # the one sent longest ago comes first

    def __len__(self) -> int:
        return len(self._keys)

    @task(week=3, day=7, number=3)
    def matched(self, keys: Sequence[bytes]) -> int:
        """How many keys are here, from the first one on, without a gap."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def add(self, keys: Sequence[bytes]) -> None:
        """Note that these were sent now. The end of a chain is forgotten before its beginning, without which it would be
        useless."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")


class PrefixAware(Router):
    """The replica that has been sent the longest prefix of the prompt before, unless it has much more to do than others.

    Tokens that a request is expected to find in the cache do not count as load.

    Args:
        block_size: that of the replicas' prefix caches, which hold full blocks only.
        max_imbalance: a replica with more than this many times the mean load gets no more requests for the sake of its cache.
        max_blocks: keys that are remembered per replica; it can't hold more than its pool has blocks.
    Raises:
        ValueError: if a size or `max_imbalance` is less than 1.
    """

    def __init__(self, block_size: int = 16, max_imbalance: float = 1.5, max_blocks: int = 10_000) -> None:
        super().__init__()
        for name, value in (("block_size", block_size), ("max_imbalance", max_imbalance), ("max_blocks", max_blocks)):
            if not value >= 1:
                raise ValueError(f"{name} is {value}: it must be at least 1")
        self.block_size = block_size
        self.max_imbalance = max_imbalance
        self.max_blocks = max_blocks
        self._seen: dict[str, SeenBlocks] = {}
        self._asked: RoutedRequest | None = None  # the last request: `choose` and `started` ask for the same keys
        self._keys: list[bytes] = []

    @task(week=3, day=7, number=3)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """The longest match first, and among equals the least loaded. By load alone if the first of these may not have it."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def _may_have(self, replica: str, matched: int, by_load: Sequence[str]) -> bool:
        """Whether its load is at most `max_imbalance` times the mean, or above the least load by no more than what its cache
        saves."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def matched(self, request: RoutedRequest, replicas: Iterable[str]) -> dict[str, int]:
        """How many tokens of a prompt each replica probably has: those in full blocks that it was sent before."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def work(self, request: RoutedRequest, replica: str) -> int:
        """Tokens that the replica probably has need not be computed."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def started(self, request: RoutedRequest, replica: str) -> None:
        """The replica will have this prompt from now on; the next request with the same prefix can follow it."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=3)
    def died(self, replica: str) -> None:
        """What it had is lost: a replica that comes back under its name has nothing."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    def remembered(self, replica: str) -> int:
        """How many blocks are remembered for a replica, `max_blocks` at most."""
        return len(self._seen_by(replica))

    @task(week=3, day=7, number=3)
    def _keys_of(self, request: RoutedRequest) -> list[bytes]:
        """The keys of a prompt, computed once even if the same request is asked about again."""
        raise NotImplementedError("Week 3 Day 7, task 3: prefix-aware routing. Read book/src/week3-07-replicas.md")

    def _seen_by(self, replica: str) -> SeenBlocks:
        return self._seen.get(replica) or SeenBlocks(self.max_blocks)
