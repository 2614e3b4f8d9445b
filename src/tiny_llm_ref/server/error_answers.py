"""Errors as answers: whatever goes wrong, and wherever it is noticed, the client is told in OpenAI's format."""

import json

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from tiny_llm_kit.course import task

from .answers import ApiError
from .engine_thread import Draining, QueueFull
from .protocol import validation_error
from .ticket import EngineDead, ServingError


@task(week=3, day=6, number=5)
def explain(error: BaseException) -> ApiError:
    """What a client is told about an exception. The status says what to do: fix the request, come back later, or give up.

    An `ApiError` is passed on as it is, and a ValueError is the request's fault (400). 429 for a full queue; 503 for a server
    that is shutting down, or whose engine is dead; 504 for a deadline. All others are the server's fault, 500: of these only
    the kind is told, since the text of an exception may contain anything.
    """
    if isinstance(error, ApiError):
        return error
    if isinstance(error, QueueFull):
        return ApiError(429, str(error), "rate_limit_error", code="queue_full")
    if isinstance(error, Draining | EngineDead):
        return ApiError(503, str(error), "service_unavailable_error")
    if isinstance(error, TimeoutError):
        return ApiError(504, str(error) or "there was no time left for the answer", "timeout_error")
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    if isinstance(error, ServingError):
        return ApiError(500, str(error), "server_error")
    return ApiError(500, f"the answer failed with a {type(error).__name__}: the server's log may say why", "server_error")


def error_answer(error: BaseException) -> Response:
    """The answer that tells a client about an error; see `explain`. If it is worth trying again later, it has a
    `Retry-After`."""
    told = explain(error)
    headers = {}
    if told.status in (429, 503):
        headers["retry-after"] = str(error.retry_after if isinstance(error, QueueFull) else 1)
    body = json.dumps(told.as_json())  # in ASCII: a message may quote half a surrogate pair, which UTF-8 can't hold
    return Response(body, told.status, headers, media_type="application/json")


def answer_all_errors(app: FastAPI) -> None:
    """Let the app answer in OpenAI's format, even where the framework finds the error: unknown paths, wrong methods, bodies
    that are not JSON or not what they should be (400, where FastAPI would say 422).
    """

    @app.exception_handler(ApiError)
    @app.exception_handler(ServingError)
    async def answer(_: Request, error: Exception) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(_: Request, error: RequestValidationError) -> Response:
        return error_answer(validation_error(error.errors()))

    @app.exception_handler(HTTPException)
    async def answer_other(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        said = {404: f"there is nothing at {path}", 405: f"{path} does not take {request.method}"}
        response = error_answer(ApiError(error.status_code, said.get(error.status_code, str(error.detail))))
        response.headers.update(error.headers or {})
        return response
