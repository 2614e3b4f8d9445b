"""The deployment: replicas of an engine on Ray Serve, with one of the course's routers in place of Ray's.

Ray starts the replicas, watches them, and replaces those that die. The course's code decides which one a request goes to, and
what happens to its stream when that one dies. Ray is an optional extra, so it is imported only where it is needed.
"""

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..server.engine_thread import Draining, EngineThread, QueueFull
from ..server.ticket import Delta, EngineDead
from .failover import StreamRequest, UpstreamDied, engine_request
from .replicated_engine import ReplicatedEngine
from .routers import RoundRobin

if TYPE_CHECKING:
    from fastapi import FastAPI

APP = "tiny-llm"
"""What Ray calls the application."""


class EngineDeployment:
    """One replica: an engine in its thread, which serves streams. Ray makes as many as it is told to.

    Args:
        build: makes the engine, in the thread that will use it, and its tokenizer. It is pickled and sent to the replica's
            process: make it a module-level function, or a `functools.partial` of one.
    Raises:
        BaseException: what `build` raises.
    """

    @task(week=3, day=7, number=7)
    def __init__(self, build: Callable[[], tuple[Any, Tokenizer]]) -> None:
        self.tokenizer: Tokenizer | None = None

        def build_here() -> Any:
            engine, self.tokenizer = build()
            return engine

        self.engine = EngineThread(build_here)
        self.engine.start()

    @task(week=3, day=7, number=7)
    async def stream(self, request: StreamRequest) -> AsyncGenerator[Delta]:
        """The deltas of one answer, from where `request` continues. Closing the generator cancels the request.

        Raises:
            UpstreamDied: if the engine is dead; this process may be alive.
            ConnectionRefusedError: if it takes no requests now, because its queue is full or it is shutting down.
            BaseException: any other error that the request ended with, or why it was refused: then the request itself is at
                fault.
        """
        own = engine_request(request, self.tokenizer)
        if own.finish_reason is not None:  # only its end was missing
            yield Delta(text=own.text, finish_reason=own.finish_reason)
            return
        try:
            ticket = await self.engine.submit(lambda: own)
        except (Draining, QueueFull) as error:
            raise ConnectionRefusedError(str(error)) from error
        except EngineDead as error:
            raise UpstreamDied(str(error)) from error
        try:
            async for delta in ticket:
                if isinstance(delta.error, EngineDead):
                    raise UpstreamDied(str(delta.error))
                if delta.error is not None:
                    raise delta.error
                yield delta
        finally:
            ticket.cancel()

    @task(week=3, day=7, number=7)
    def check_health(self) -> None:
        """Called by Ray now and then. A process that still answers although its engine is dead is the worst kind of replica.

        Raises:
            RuntimeError: if the engine is not healthy, with the reason. Ray then replaces the replica.
        """
        if not self.engine.healthy:
            raise RuntimeError(f"the engine is not healthy: {self.engine.reason}")


@task(week=3, day=7, number=7)
async def ask_ray(handle: Any, request: StreamRequest) -> AsyncGenerator[Delta]:
    """Ask one of Ray's replicas, the one that its router picks. With `handle` bound, this is an `Upstream`.

    An exception of the replica passes through: Ray raises it here with its original type.

    Args:
        handle: of an `EngineDeployment`, made by `options(stream=True)`.
    Raises:
        UpstreamDied: if the replica's process has died.
        ConnectionError: if Ray can't reach it, or has lost track of it: it may be alive.
    """
    from ray.exceptions import ActorDiedError, RayActorError

    response = handle.stream.remote(request)
    try:
        async for delta in response:
            yield delta
    except ActorDiedError as error:
        raise UpstreamDied("the replica's process has died") from error
    except RayActorError as error:
        raise ConnectionError(f"the replica can't be reached: {error}") from error
    finally:
        response.cancel()


def import_serve() -> Any:
    """The module `ray.serve`; if it is not installed, an ImportError says how to get it."""
    try:
        from ray import serve
    except ImportError:
        raise ImportError("Ray is not installed, and replicas need it: run `pdm run setup-replicas`") from None
    return serve


async def replaces_the_dead(name: str) -> bool:
    """From here, all of Ray's replicas are one upstream, which is always alive: Ray's router knows which replicas are."""
    return True


@task(week=3, day=7, number=7)
def deploy(
    build: Callable[[], tuple[Any, Tokenizer]],
    make_app: "Callable[[ReplicatedEngine], FastAPI]",
    *,
    replicas: int,
    router: str = "PrefixAware",
    max_ongoing_requests: int = 256,
    cpus: float = 1.0,
) -> Any:
    """A Ray Serve application: `replicas` of an engine, and in front of them one app that streams with fail-over.

    Args:
        build: see `EngineDeployment`.
        make_app: makes the app that answers HTTP, in its own process. It is pickled like `build`.
        router: one of `serve_router.ROUTERS`.
        max_ongoing_requests: most that a replica has at once, including those that wait in its engine.
        cpus: how many CPUs Ray sets aside per replica.
    Raises:
        ImportError: without Ray.
    """
    serve = import_serve()
    from ray.serve.config import RequestRouterConfig

    engines = serve.deployment(EngineDeployment).options(
        num_replicas=replicas,
        max_ongoing_requests=max_ongoing_requests,
        ray_actor_options={"num_cpus": cpus},
        health_check_period_s=1,
        request_router_config=RequestRouterConfig(
            request_router_class=f"{__package__}.serve_router.ServeRouter", request_router_kwargs={"router": router}
        ),
    )

    def build_asgi_app() -> "FastAPI":
        handle = serve.get_deployment_handle(EngineDeployment.__name__, app_name=APP).options(stream=True)
        return make_app(ReplicatedEngine(RoundRobin(), {"Ray": partial(ask_ray, handle)}, replaces_the_dead))

    ingress = serve.deployment(serve.ingress(build_asgi_app)()).options(
        name="Ingress", max_ongoing_requests=4 * replicas * max_ongoing_requests, ray_actor_options={"num_cpus": 0}
    )
    return ingress.bind(engines.bind(build))
