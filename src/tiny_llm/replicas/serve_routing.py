"""The course's routers in place of Ray Serve's: passes what Ray asks and tells its request router on to a `Router`.

Ray is not needed here; the class built from this is in `serve_router`.
"""

from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task

from .routers import RoutedRequest, Router


class ServeRouting:
    """Passes what Ray asks and tells its request router on to a `Router` of the course.

    It is mixed into `ray.serve.request_router.RequestRouter`, whose methods these are. Replicas go by `replica_id.unique_id`. A
    request is the first argument of a call. It counts from the moment a replica is chosen for it: in a burst, many are on their
    way before the first of them is accepted. Ray does not report progress.
    """

    router: Router

    def use(self, router: Router) -> None:
        """Begin, with this router."""
        self.router = router
        self._counted: dict[str, tuple[RoutedRequest, str]] = {}  # by Ray's internal request id

    @task(week=3, day=7, number=7)
    async def choose_replicas(self, candidate_replicas: Sequence[Any], pending_request: Any = None) -> list[list[Any]]:
        """Ranks of replicas, each a list, the best first; Ray takes the first that has room.

        As long as none has, Ray asks again after a pause. What is not one of our requests goes to any candidate.
        """
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        """A replica has accepted a request. It need not be the first that was ranked, since that may have been full."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        """A request has ended at a replica, in whatever way. Ray also calls this for a replica that did not accept it, possibly
        when the request already counts elsewhere."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_replica_actor_died(self, replica_id: Any) -> None:
        """A replica's process is gone. Its replacement has another id."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def update_replicas(self, replicas: Sequence[Any]) -> None:
        """These are all the replicas now. One that was there before and is missing has died, or was stopped by Ray."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def _count(self, pending_request: Any, request: RoutedRequest, replica: str) -> None:
        """Let a request count at this replica, and at no other. If its client leaves while Ray is still looking for a replica,
        Ray only cancels the request's future."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    def _forget(self, key: str) -> None:
        if counted := self._counted.pop(key, None):
            self.router.finished(*counted)


def _first_argument(pending_request: Any) -> Any:
    return pending_request.args[0] if pending_request.args else None
