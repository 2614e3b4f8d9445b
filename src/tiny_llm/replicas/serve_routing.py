"""The course's routers in the place of Ray Serve's: what Ray asks its request router, put to a `Router`, and what it tells it.

Ray is not needed here; the class that it makes of this is in `serve_router`.
"""

from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task

from .routers import RoutedRequest, Router


class ServeRouting:
    """What Ray asks its request router and tells it, put to a `Router` of the course.

    It is mixed into `ray.serve.request_router.RequestRouter`, whose methods these are. Replicas go by `replica_id.unique_id`. A
    request is the first argument of a call. It counts from the moment in which a replica is chosen for it: in a burst, many are
    on their way before the first of them is accepted. Ray says nothing of progress.
    """

    router: Router

    def use(self, router: Router) -> None:
        """Begin, with this router."""
        self.router = router
        self._counted: dict[str, tuple[RoutedRequest, str]] = {}  # by Ray's internal request id

    @task(week=3, day=7, number=7)
    async def choose_replicas(self, candidate_replicas: Sequence[Any], pending_request: Any = None) -> list[list[Any]]:
        """Ranks of replicas, the best one first, each a list; Ray takes the first that has room.

        Ray asks again, after a pause, while none has. What is no request of ours, Ray sends to any candidate.
        """
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        """A replica has accepted a request. It need not be the first that was ranked, since that may have been full."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        """A request has ended at a replica, in whatever way. Ray also says so of a replica that did not accept it, maybe when
        the request counts elsewhere already."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def on_replica_actor_died(self, replica_id: Any) -> None:
        """A replica's process is gone. The one that Ray starts for it has another id."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def update_replicas(self, replicas: Sequence[Any]) -> None:
        """These are all there are now. Who was there before and is not among them has died, too, or was stopped by Ray."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    @task(week=3, day=7, number=7)
    def _count(self, pending_request: Any, request: RoutedRequest, replica: str) -> None:
        """Let a request count at this replica, and at no other. If its client leaves while Ray still looks for a replica, Ray
        says nothing, but cancels the request's future."""
        raise NotImplementedError("Week 3 Day 7, task 7: the deployment. Read book/src/week3-07-replicas.md")

    def _forget(self, key: str) -> None:
        if counted := self._counted.pop(key, None):
            self.router.finished(*counted)


def _first_argument(pending_request: Any) -> Any:
    return pending_request.args[0] if pending_request.args else None
