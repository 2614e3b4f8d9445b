from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task

from .routers import RoutedRequest


class ServeRouting:
    @task(week=3, day=7, number=7)
    async def choose_replicas(self, candidate_replicas: Sequence[Any], pending_request: Any = None) -> list[list[Any]]:
        request = None if pending_request is None else _first_argument(pending_request)
        if not isinstance(request, RoutedRequest):
            return [list(candidate_replicas)]
        pending_request.routing_context.should_backoff = True
        self._forget(pending_request.metadata.internal_request_id)
        by_name = {replica.replica_id.unique_id: replica for replica in candidate_replicas}
        ranking = self.router.choose(request, list(by_name))
        if ranking:
            self._count(pending_request, request, ranking[0])
        return [[by_name[name]] for name in ranking]

    @task(week=3, day=7, number=7)
    def on_replica_actor_died(self, replica_id: Any) -> None:
        super().on_replica_actor_died(replica_id)
        self._gone(replica_id.unique_id)

    @task(week=3, day=7, number=7)
    def update_replicas(self, replicas: Sequence[Any]) -> None:
        super().update_replicas(replicas)
        now = {replica.replica_id.unique_id for replica in replicas}
        for name in getattr(self, "_names", set()) - now:
            self._gone(name)
        self._names = now

    @task(week=3, day=7, number=7)
    def _count(self, pending_request: Any, request: RoutedRequest, replica: str) -> None:
        key = pending_request.metadata.internal_request_id
        counted = self._counted.get(key)
        if counted is not None and counted[1] == replica:
            return
        self._forget(key)
        self.router.started(request, replica)
        self._counted[key] = request, replica
        pending_request.future.add_done_callback(lambda future: self._forget(key) if future.cancelled() else None)

    def _gone(self, name: str) -> None:
        self.router.died(name)
        self._counted = {key: value for key, value in self._counted.items() if value[1] != name}
