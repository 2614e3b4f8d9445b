"""The request router that Ray Serve gets, by the name of this module: Ray imports it where it routes. It needs Ray."""

from typing import Any

from ray.serve.request_router import RequestRouter

from .hash_ring import ConsistentHash
from .prefix_router import PrefixAware
from .routers import LeastTokens, PowerOfTwoChoices, RoundRobin
from .serve_routing import ServeRouting

ROUTERS = {router.__name__: router for router in (ConsistentHash, LeastTokens, PowerOfTwoChoices, PrefixAware, RoundRobin)}


class ServeRouter(ServeRouting, RequestRouter):
    """Ray's router, with the ranking and the records of one of the course's routers."""

    def initialize_state(self, *, router: str, **options: Any) -> None:
        """Called by Ray with the `request_router_kwargs`: the name of a router's class, and its arguments."""
        self.use(ROUTERS[router](**options))
