"""The results of a simulation of many replicas, read from their event logs."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from math import inf

from tiny_llm_kit.course import task

from ..event_log import BatchState, EventKind
from ..measure.request_times import RequestTimes, RunRecorder


@dataclass
class ReplicaReport:
    """What one replica did: `read` is a reader of its event log.

    Args:
        name: the replica's.
        started, stopped: when it was asked for, and when it was gone; infinity if it ran to the end.
        prompt_tokens: those of all requests that were sent to it.
        cached_tokens: how many of them its prefix cache had when the request was first admitted.
        computed_tokens: prompt tokens that it computed, and what preempted requests computed again.
        generated_tokens: those in the answers of requests that have ended.
        recorder: keeps the times of its requests.
    """

    name: str
    started: float = 0.0
    stopped: float = inf
    prompt_tokens: int = 0
    cached_tokens: int = 0
    computed_tokens: int = 0
    generated_tokens: int = 0
    recorder: RunRecorder = field(default_factory=RunRecorder, repr=False)
    _begun: set[int] = field(default_factory=set, repr=False)  # requests with a computed chunk

    @task(week=3, day=7, number=4)
    def read(self, state: BatchState) -> None:
        """Take in one iteration, and let `recorder` do so. The first chunk of a request begins after its cached tokens."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @property
    def requests(self) -> dict[int, RequestTimes]:
        """The times of each request that was sent to it, by id."""
        return self.recorder.requests

    @property
    def work(self) -> int:
        """Tokens that it has computed: its load over the whole run."""
        return self.computed_tokens + self.generated_tokens


@dataclass(frozen=True)
class FleetReport:
    """What all replicas did together.

    Args:
        replicas: all that ever existed, in the order in which they started.
        seconds: until the last request has ended.
    """

    replicas: Sequence[ReplicaReport]
    seconds: float

    @property
    def prompt_tokens(self) -> int:
        """The prompt tokens of all requests."""
        return sum(replica.prompt_tokens for replica in self.replicas)

    @property
    def computed_tokens(self) -> int:
        """Prompt tokens that were computed; see `ReplicaReport`."""
        return sum(replica.computed_tokens for replica in self.replicas)

    @property
    @task(week=3, day=7, number=4)
    def hit_rate(self) -> float:
        """The share of all prompt tokens that were in prefix caches, 0 … 1; 0 if there are none."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @property
    @task(week=3, day=7, number=4)
    def imbalance(self) -> float:
        """The load of the busiest replica over the mean: 1 if all have done the same, and 1 if none has done anything."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @property
    @task(week=3, day=7, number=4)
    def ttfts(self) -> list[float]:
        """Seconds to the first token, for every request that has one, from the moment at which its client sent it."""
        raise NotImplementedError("Week 3 Day 7, task 4: many replicas in simulation. Read book/src/week3-07-replicas.md")

    @property
    @task(week=3, day=7, number=6)
    def replica_seconds(self) -> float:
        """What has to be paid for: seconds from a replica's start to its stop or the end of the run, summed over all
        replicas."""
        raise NotImplementedError("Week 3 Day 7, task 6: autoscaling. Read book/src/week3-07-replicas.md")
