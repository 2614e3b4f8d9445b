from collections.abc import AsyncGenerator, Callable
from typing import Any

from tiny_llm_kit.course import task
from tiny_llm_kit.models.tokenizer import Tokenizer

from ..server.engine_thread import Draining, EngineThread, QueueFull
from ..server.ticket import Delta, EngineDead
from .failover import StreamRequest, UpstreamDied, engine_request


class EngineDeployment:
    @task(week=3, day=7, number=7)
    def __init__(self, build: Callable[[], tuple[Any, Tokenizer]]) -> None:
        tokenizers: list[Tokenizer] = []

        def engine_alone() -> Any:
            engine, tokenizer = build()
            tokenizers.append(tokenizer)
            return engine

        self.engine = EngineThread(engine_alone)
        self.engine.start()
        (self.tokenizer,) = tokenizers

    @task(week=3, day=7, number=7)
    async def stream(self, request: StreamRequest) -> AsyncGenerator[Delta]:
        own = engine_request(request, self.tokenizer)
        if own.state == "finished":
            yield Delta(own.text, (), (), own.finish_reason)
            return
        ticket = None
        try:
            ticket = await self.engine.submit(lambda: own)
            async for delta in ticket:
                if delta.error is not None:
                    raise delta.error
                yield delta
        except EngineDead as death:
            raise UpstreamDied(f"the engine is dead: {death}") from death
        except (Draining, QueueFull) as refusal:
            raise ConnectionRefusedError(f"not taken: {refusal}") from refusal
        finally:
            if ticket is not None:
                ticket.cancel()

    @task(week=3, day=7, number=7)
    def check_health(self) -> None:
        if (reason := self.engine.reason) is not None:
            raise RuntimeError(reason)


@task(week=3, day=7, number=7)
async def ask_ray(handle: Any, request: StreamRequest) -> AsyncGenerator[Delta]:
    from ray.exceptions import ActorDiedError, RayActorError

    deltas = handle.stream.remote(request)
    try:
        async for delta in deltas:
            yield delta
    except RayActorError as error:
        is_dead = isinstance(error, ActorDiedError)
        kind = UpstreamDied if is_dead else ConnectionError
        raise kind(f"Ray says: {error}") from error
    finally:
        deltas.cancel()
