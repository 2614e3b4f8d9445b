from collections.abc import Sequence
from typing import Any

from tiny_llm_kit.course import task

from .routers import RoutedRequest


class ServeRouting:
    @task(week=3, day=7, number=7)
    async def choose_replicas(self, candidate_replicas: Sequence[Any], pending_request: Any = None) -> list[list[Any]]:
        match getattr(pending_request, "args", None):
            case [RoutedRequest() as request, *_]:
                pending_request.routing_context.should_backoff = True
                names = [replica.replica_id.unique_id for replica in candidate_replicas]
                ranking = self.router.choose(request, names)
                for first in ranking[:1]:
                    self._move(pending_request, request, first)
                return [[candidate_replicas[names.index(name)]] for name in ranking]
            case _:
                return [list(candidate_replicas)]

    @task(week=3, day=7, number=7)
    def on_request_routed(self, pending_request: Any, replica_id: Any, result: Any) -> None:
        match pending_request.args:
            case [RoutedRequest() as request, *_]:
                self._move(pending_request, request, replica_id.unique_id)

    @task(week=3, day=7, number=7)
    def on_request_completed(self, replica_id: Any, internal_request_id: str) -> None:
        if internal_request_id in self._counted:
            request, where = self._counted[internal_request_id]
            if where == replica_id.unique_id:
                del self._counted[internal_request_id]
                self.router.finished(request, where)

    @task(week=3, day=7, number=7)
    def on_replica_actor_died(self, replica_id: Any) -> None:
        self.router.died(replica_id.unique_id)
        super().on_replica_actor_died(replica_id)

    @task(week=3, day=7, number=7)
    def update_replicas(self, replicas: Sequence[Any]) -> None:
        now = [replica.replica_id.unique_id for replica in replicas]
        gone = [replica_id.unique_id for replica_id in self.curr_replicas if replica_id.unique_id not in now]
        for name in gone:
            self.router.died(name)
        super().update_replicas(replicas)

    def _move(self, pending_request: Any, request: RoutedRequest, replica: str) -> None:
        key = pending_request.metadata.internal_request_id
        before = self._counted.get(key)
        if before is not None and before[1] == replica:
            return
        if before is not None:
            self.router.finished(*before)
        else:
            pending_request.future.add_done_callback(lambda future: self._left(key, future))
        self.router.started(request, replica)
        self._counted[key] = (request, replica)

    def _left(self, key: str, future: Any) -> None:
        if future.cancelled() and key in self._counted:
            self.router.finished(*self._counted.pop(key))
