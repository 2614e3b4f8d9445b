"""Which replica serves a request: a ranking of them, and the routers' records of what each of them has to do.

A router sees only what passes through it: no engine, no network, no clock.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import count
from random import Random

from tiny_llm_kit.course import task


@dataclass(frozen=True)
class RoutedRequest:
    """What a router knows about a request.

    Args:
        request_id: different from that of every other open request.
        prompt: token ids.
        max_tokens: most tokens of its answer.
        session: the conversation that it belongs to; empty if unknown.
    """

    request_id: str
    prompt: Sequence[int]
    max_tokens: int
    session: str = ""


@dataclass
class Load:
    """What one replica has to do.

    Args:
        to_come: by request, the tokens that are still to be computed for it.
        tokens: the sum of these.
        last_start: the number of the last request started at this replica, counted over all; −1 before there was any.
    """

    to_come: dict[str, int] = field(default_factory=dict)
    tokens: int = 0
    last_start: int = -1


class Router(ABC):
    """Ranks replicas, and is told what happens to the requests that it has ranked them for.

    To send a request, call `choose`, take the first replica that accepts it, and call `started` at once, before anything is
    awaited: a request on its way already counts. `finished` follows, however the request ends. If its replica dies, `died`
    releases everything at once; to send the request elsewhere, call `started` again.
    """

    def __init__(self) -> None:
        self._loads: dict[str, Load] = {}
        self._dead: set[str] = set()
        self._starts = count()

    @task(week=3, day=7, number=1)
    def choose(self, request: RoutedRequest, replicas: Sequence[str]) -> list[str]:
        """All living ones of `replicas`, each once, the best one first; the next one is for when that refuses.

        Args:
            replicas: names. The list may be older than the last `died`.
        """
        return self.rank(request, [name for name in dict.fromkeys(replicas) if name not in self._dead])

    @abstractmethod
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """The same names, the best one first. There may be none."""

    @task(week=3, day=7, number=1)
    def started(self, request: RoutedRequest, replica: str) -> None:
        """Note that a request is sent to a replica: from now on it counts there, unless the replica has died."""
        if replica in self._dead:
            return
        load = self._loads.setdefault(replica, Load())
        load.last_start = next(self._starts)
        self._set(load, request.request_id, self.work(request, replica))

    @task(week=3, day=7, number=1)
    def progressed(self, request: RoutedRequest, replica: str, tokens: int) -> None:
        """Note that this many more tokens of its answer have come back. With the first of them, its prompt has been computed.

        Tokens of a request that does not count there, or no longer does, are ignored; a load is never below 0.
        """
        load = self._loads.get(replica)
        if load is not None and request.request_id in load.to_come:
            left = min(load.to_come[request.request_id], request.max_tokens)
            self._set(load, request.request_id, max(left - tokens, 0))

    @task(week=3, day=7, number=1)
    def finished(self, request: RoutedRequest, replica: str) -> None:
        """Note that a request has ended at a replica, in whatever way: it no longer counts there. A second call changes
        nothing."""
        load = self._loads.get(replica)
        if load is not None and request.request_id in load.to_come:
            load.tokens -= load.to_come.pop(request.request_id)

    @task(week=3, day=7, number=1)
    def died(self, replica: str) -> None:
        """Note that a replica has died or was removed: it is not ranked until it has `joined` again, and its requests count
        nowhere."""
        self._loads.pop(replica, None)
        self._dead.add(replica)

    @task(week=3, day=7, number=1)
    def joined(self, replica: str) -> None:
        """Note that a replica that died is back under the same name. A new name need not join."""
        self._dead.discard(replica)

    def requests(self, replica: str) -> int:
        """How many open requests a replica has."""
        return len(self._load(replica).to_come)

    def tokens(self, replica: str) -> int:
        """How many tokens a replica still has to compute, as far as this router knows."""
        return self._load(replica).tokens

    def work(self, request: RoutedRequest, replica: str) -> int:
        """The most tokens that a replica may have to compute for a request: its whole prompt, and the longest answer."""
        return len(request.prompt) + request.max_tokens

    @task(week=3, day=7, number=1)
    def least_loaded(self, living: Iterable[str]) -> list[str]:
        """In order of tokens to come. Among equals, the one whose last start is longest ago comes first: this spreads ties."""
        return sorted(living, key=lambda replica: (self.tokens(replica), self._load(replica).last_start))

    def _load(self, replica: str) -> Load:
        return self._loads.get(replica) or Load()

    def _set(self, load: Load, request_id: str, tokens: int) -> None:
        load.tokens += tokens - load.to_come.get(request_id, 0)
        load.to_come[request_id] = tokens


class RoundRobin(Router):
    """One after another, no matter how much they have to do."""

    def __init__(self) -> None:
        super().__init__()
        self._turns = count()

    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """Each turn begins one place further along the list, and goes round it."""
        first = next(self._turns) % max(len(living), 1)
        return [*living[first:], *living[:first]]


class PowerOfTwoChoices(Router):
    """Two at random, and of these the one with fewer requests.

    That is far better than one at random (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001), and
    unlike choosing the least loaded of all, it does not send every request to the same replica when load figures are old.

    Args:
        seed: a different seed gives different choices; the same one gives the same.
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self._random = Random(seed)

    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """In random order, except that the first two are in the order of their requests; ties stay random."""
        drawn = self._random.sample(living, len(living))
        return sorted(drawn[:2], key=self.requests) + drawn[2:]


class LeastTokens(Router):
    """The one with the fewest tokens to compute: a request with a long prompt counts more than one with a short prompt."""

    @task(week=3, day=7, number=1)
    def rank(self, request: RoutedRequest, living: list[str]) -> list[str]:
        """See `least_loaded`."""
        return self.least_loaded(living)
