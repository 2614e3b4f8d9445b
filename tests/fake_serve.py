"""As much of Ray Serve as a request router sees of it: replicas, requests that look for one, and the class it is mixed into."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

from answer import answer

_numbers = count()


@dataclass(frozen=True)
class ReplicaID:
    unique_id: str


@dataclass(frozen=True)
class RunningReplica:
    replica_id: ReplicaID


def replicas(*names: str) -> list[RunningReplica]:
    return [RunningReplica(ReplicaID(name)) for name in names]


@dataclass
class Pending:
    """A call that waits for a replica, to be made in an event loop."""

    args: list[Any]
    metadata: Any = field(default_factory=lambda: SimpleNamespace(internal_request_id=f"call {next(_numbers)}"))
    routing_context: Any = field(default_factory=lambda: SimpleNamespace(should_backoff=False))
    future: "asyncio.Future[Any]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())

    @property
    def key(self) -> str:
        return str(self.metadata.internal_request_id)


def call(prompt: int = 10, max_tokens: int = 6, **options: Any) -> Pending:
    """A request with this many prompt tokens, unlike those of all others."""
    number = next(_numbers)
    return Pending([answer.RoutedRequest(f"request {number}", [1000 + number] * prompt, max_tokens, **options)])


class RaysPart:
    """What Ray's own class keeps."""

    def __init__(self) -> None:
        self.curr_replicas: dict[ReplicaID, RunningReplica] = {}

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        self.curr_replicas.pop(replica_id, None)

    def update_replicas(self, replicas: Sequence[RunningReplica]) -> None:
        self.curr_replicas = {replica.replica_id: replica for replica in replicas}


def routing(router: Any, *names: str) -> Any:
    """The class under test with Ray's part, this router, and these replicas."""

    class Routing(answer.ServeRouting, RaysPart):
        pass

    made = Routing()
    made.use(router)
    made.update_replicas(replicas(*names))
    return made


async def choose(made: Any, pending: Pending) -> list[str]:
    """The names of all who are ranked, in order; AssertionError for a rank that is not one replica."""
    __tracebackhide__ = True
    ranks = await made.choose_replicas(list(made.curr_replicas.values()), pending)
    assert all(len(rank) == 1 for rank in ranks), (
        f"each rank is a list of one replica, as the router has ranked them; of a rank with more, Ray takes any: {ranks}"
    )
    return [rank[0].replica_id.unique_id for rank in ranks]


async def route(made: Any, pending: Pending) -> str:
    """Choose, and let the first accept; its name."""
    ranked = await choose(made, pending)
    made.on_request_routed(pending, ReplicaID(ranked[0]), None)
    return ranked[0]
