"""Bodies as clients send them, and what becomes of them."""

import json
from typing import Any

from answer import answer
from support import refuses

HELLO = [{"role": "user", "content": "hello"}]


def chat(**fields: Any) -> Any:
    """A `ChatCompletionRequest` from a body with one short message, unless the fields say otherwise."""
    __tracebackhide__ = True
    return _accepted("ChatCompletionRequest", {"messages": HELLO, **fields})


def completion(**fields: Any) -> Any:
    """A `CompletionRequest` from a body with a short prompt, unless the fields say otherwise."""
    __tracebackhide__ = True
    return _accepted("CompletionRequest", {"prompt": "hello", **fields})


def refused_chat(**fields: Any) -> dict[str, Any]:
    """What a client is told of such a body: the inside of `{"error": …}`."""
    __tracebackhide__ = True
    return refused("ChatCompletionRequest", json.dumps({"messages": HELLO, **fields}).encode())


def refused_completion(**fields: Any) -> dict[str, Any]:
    """What a client is told of such a body: the inside of `{"error": …}`."""
    __tracebackhide__ = True
    return refused("CompletionRequest", json.dumps({"prompt": "hello", **fields}).encode())


def refused(kind: str, body: bytes) -> dict[str, Any]:
    """`parse_body` has to raise an ApiError 400 for these bytes; its JSON."""
    __tracebackhide__ = True
    what = f"{body[:80]!r}"
    with refuses(answer.ApiError, f"{what} should be refused"):
        try:
            answer.parse_body(getattr(answer, kind), body)
        except answer.ApiError as error:
            told = error
            raise
    assert told.status == 400, f"{what}: the status should be 400, and is {told.status}"
    assert list(told.as_json()) == ["error"], f"an error's body is {{'error': …}}, and not {told.as_json()}"
    return dict(json.loads(json.dumps(told.as_json()))["error"])


def _accepted(kind: str, body: dict[str, Any]) -> Any:
    __tracebackhide__ = True
    try:
        return answer.parse_body(getattr(answer, kind), json.dumps(body).encode())
    except answer.ApiError as error:
        raise AssertionError(f"{json.dumps(body):.200} should be accepted, and was refused: {error}") from error
