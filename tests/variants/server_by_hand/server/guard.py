import asyncio
import hmac

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from tiny_llm_kit.course import task

from .answers import ApiError


@task(week=3, day=6, number=5)
def check_key(path: str, authorization: str | None, api_key: str | None) -> None:
    if path in _OPEN_PATHS or api_key is None:
        return
    match (authorization or "").split(maxsplit=1):
        case [scheme, key] if scheme.casefold() == "bearer":
            if hmac.compare_digest(key.strip().encode("utf-8", "replace"), api_key.encode("utf-8")):
                return
    raise ApiError(401, "this needs the key, as 'Authorization: Bearer …'", "authentication_error", code="invalid_api_key")


@task(week=3, day=6, number=5)
async def read_body(receive: Receive, most: int, announced: str | None = None) -> bytes:
    try:
        hopeless = int(announced or 0) > _DISCARDED_BODIES * most
    except ValueError:
        hopeless = False
    parts, size = [], 0

    async def read_all() -> None:
        nonlocal size
        more = not hopeless
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            size += len(message.get("body", b""))
            if size > most:
                parts.clear()
            else:
                parts.append(message.get("body", b""))
            more = message.get("more_body", False) and size <= _DISCARDED_BODIES * most

    try:
        await asyncio.wait_for(read_all(), BODY_SECONDS)
    except TimeoutError:
        raise ApiError(408, f"{BODY_SECONDS} seconds were not enough for the body") from None
    if hopeless or size > most:
        raise ApiError(413, f"bodies have at most {most} bytes here: send less")
    return b"".join(parts)
