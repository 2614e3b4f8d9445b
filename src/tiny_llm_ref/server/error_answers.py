"""Errors as answers: whatever goes wrong, and whoever notices it, a client is told in OpenAI's shape."""

import json

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from .protocol import ApiError

RETRY_AFTER = 1
"""Seconds after which a client that was sent away may try again."""


def error_answer(error: ApiError) -> Response:
    """The answer with the error's status and body. What is said of 429 and 503 may be another in a moment: `Retry-After`."""
    headers = {"retry-after": str(RETRY_AFTER)} if error.status in (429, 503) else {}
    body = json.dumps(error.as_json())  # in ASCII: a message may quote half a surrogate pair, which UTF-8 cannot hold
    return Response(body, error.status, headers, media_type="application/json")


def answer_all_errors(app: FastAPI) -> None:
    """Let the app answer in OpenAI's shape, also where the framework has found the error: unknown paths, wrong methods, bodies
    that are no JSON or not what they should be (400, where FastAPI would say 422).
    """

    @app.exception_handler(ApiError)
    async def answer(_: Request, error: ApiError) -> Response:
        return error_answer(error)

    @app.exception_handler(RequestValidationError)
    async def answer_invalid(_: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"] if part != "body") or None
        return error_answer(ApiError(400, f"{param or 'the body'}: {first['msg']}", "invalid_request_error", param))

    @app.exception_handler(HTTPException)
    async def answer_other(request: Request, error: HTTPException) -> Response:
        path = request.scope["path"]
        said = {404: f"there is nothing at {path}", 405: f"{path} does not take {request.method}"}
        message = said.get(error.status_code, str(error.detail))
        response = error_answer(ApiError(error.status_code, message, "invalid_request_error"))
        response.headers.update(error.headers or {})
        return response
