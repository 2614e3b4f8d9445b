from tiny_llm_kit.course import task

from .answers import ApiError
from .engine_thread import Draining, QueueFull
from .ticket import EngineDead, ServingError


@task(week=3, day=6, number=5)
def explain(error: BaseException) -> ApiError:
    match error:
        case ApiError():
            return error
        case TimeoutError():
            return ApiError(504, str(error) or "it took too long", "server_error")
        case ValueError():
            return ApiError(400, str(error))
        case ServingError():
            status = {QueueFull: 429, Draining: 503, EngineDead: 503}.get(type(error), 500)
            return ApiError(status, str(error), "server_error", code="queue_full" if status == 429 else None)
        case _:
            return ApiError(500, f"this went wrong here and not with you ({type(error).__name__})", "server_error")
