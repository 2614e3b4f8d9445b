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
        if pending_request is None or not isinstance(request := _first_argument(pending_request), RoutedRequest):
            return [list(candidate_replicas)]
        pending_request.routing_context.should_backoff = True  # without it, Ray asks again at once, and forever
        named = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        ranked = self.router.choose(request, list(named))
        if ranked:
            self._count(pending_request, request, ranked[0])
        return [[named[name]] for name in ranked]

    @task(week=3, day=7, number=7)
    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        """A replica has accepted a request. It need not be the first that was ranked, since that may have been full."""
        if isinstance(request := _first_argument(pending_request), RoutedRequest):
            self._count(pending_request, request, replica_id.unique_id)

    @task(week=3, day=7, number=7)
    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        """A request has ended at a replica, in whatever way. Ray also calls this for a replica that did not accept it, possibly
        when the request already counts elsewhere."""
        if self._counted.get(internal_request_id, ("", ""))[1] == replica_id.unique_id:
            self._forget(internal_request_id)

    @task(week=3, day=7, number=7)
    def on_replica_actor_died(self, replica_id: Any) -> None:
        """A replica's process is gone. Its replacement has another id."""
        super().on_replica_actor_died(replica_id)  # type: ignore[misc]
        self.router.died(replica_id.unique_id)

    @task(week=3, day=7, number=7)
    def update_replicas(self, replicas: Sequence[Any]) -> None:
        """These are all the replicas now. One that was there before and is missing has died, or was stopped by Ray."""
        before = {replica_id.unique_id for replica_id in self.curr_replicas}  # type: ignore[attr-defined]
        super().update_replicas(replicas)  # type: ignore[misc]
        for name in before - {replica.replica_id.unique_id for replica in replicas}:
            self.router.died(name)

    @task(week=3, day=7, number=7)
    def _count(self, pending_request: Any, request: RoutedRequest, replica: str) -> None:
        """Let a request count at this replica, and at no other. If its client leaves while Ray is still looking for a replica,
        Ray only cancels the request's future."""
        key = pending_request.metadata.internal_request_id
        if self._counted.get(key) == (request, replica):
            return
        self._forget(key)
        self._counted[key] = (request, replica)
        self.router.started(request, replica)
        pending_request.future.add_done_callback(lambda future: self._forget(key) if future.cancelled() else None)

    def _forget(self, key: str) -> None:
        if counted := self._counted.pop(key, None):
            self.router.finished(*counted)


def _first_argument(pending_request: Any) -> Any:
    return pending_request.args[0] if pending_request.args else None
