"""What the tests of simulated replicas share: a cost that can be added up by hand, a router that notes what it hears, items."""

from collections.abc import Sequence
from typing import Any

from answer import answer
from tiny_llm_kit.workloads.items import WorkItem


class PerToken:
    """So many seconds per launch and per token in it; sums of multiples of 1/1024 are exact."""

    def __init__(self, launch: float = 1.0, token: float = 0.0, launch_waits: bool = False) -> None:
        self.launch, self.token, self.launch_waits = launch, token, launch_waits

    def seconds(self, calls: Sequence[Any]) -> float:
        return self.launch + self.token * sum(call.tokens for call in calls) if calls else 0.0


def sizes(num_blocks: int = 200, **options: Any) -> Any:
    return answer.EngineSizes(num_blocks, **options)


def item(arrival: float, prompt: int | Sequence[int] = 8, max_tokens: int = 3, first: int = 0) -> WorkItem:
    """A request with these prompt tokens, or with this many, which are the same for the same `first`."""
    tokens = [1000 * first + place for place in range(prompt)] if isinstance(prompt, int) else prompt
    return WorkItem(tuple(tokens), max_tokens, arrival)


class Listener(answer.Router):  # type: ignore[misc, name-defined]
    """Sends requests where it is told to, and notes what it is told, as (what, number of the request, replica, …)."""

    def __init__(self, *plan: str) -> None:
        super().__init__()
        self.plan = list(plan)
        self.heard: list[tuple[Any, ...]] = []
        self.seen: list[Any] = []  # requests, in the order in which they were to be routed
        self.offered: list[list[str]] = []
        self.known: list[list[tuple[Any, ...]]] = []  # what had been heard when each request was routed

    def choose(self, request: Any, replicas: Sequence[str]) -> list[str]:
        self.offered.append(list(replicas))
        self.known.append(list(self.heard))
        self.seen.append(request)
        name = self.plan.pop(0) if self.plan else replicas[0]
        return [name, *(other for other in replicas if other != name)]

    def rank(self, request: Any, living: list[str]) -> list[str]:
        raise AssertionError("only `choose` asks for a ranking, and here it does not")

    def _note(self, what: str, request: Any, *rest: Any) -> None:
        self.heard.append((what, self.seen.index(request), *rest))

    def started(self, request: Any, replica: str) -> None:
        self._note("started", request, replica)

    def progressed(self, request: Any, replica: str, tokens: int) -> None:
        self._note("progressed", request, replica, tokens)

    def finished(self, request: Any, replica: str) -> None:
        self._note("finished", request, replica)

    def died(self, replica: str) -> None:
        self.heard.append(("died", replica))
