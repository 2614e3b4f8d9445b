"""The client of `bench-serve`, a process of its own: all requests at once, each a stream. JSON goes in and out, in lines.

In: the server's URL, a body to warm up with, and the bodies. Out: "ready". In: "go". Out: what came, and when.

While answers are under way, what comes is only stored, with the time, and read afterwards: on a machine with few cores, any
time that the client takes is taken from the server. `time.monotonic` is one clock for all processes of a machine.
"""

import asyncio
import json
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any

import httpx

Piece = tuple[float, bytes]
"""When some bytes were there, and the bytes."""


class Failed(Exception):
    """An answer that failed."""


async def serve(job: dict[str, Any]) -> list[list[Piece]]:
    """All bytes of each answer. Raises `Failed` if the server refuses one."""
    unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(base_url=job["url"], timeout=None, limits=unlimited, trust_env=False) as client:
        await _receive(client, json.dumps(job["warm_up"]).encode())
        bodies = [json.dumps(body).encode() for body in job["bodies"]]
        print("ready", flush=True)
        if not sys.stdin.readline():
            raise SystemExit(1)  # there is no one left to tell
        async with asyncio.TaskGroup() as group:
            receiving = [group.create_task(_receive(client, body)) for body in bodies]
        return [task.result() for task in receiving]


async def _receive(client: httpx.AsyncClient, body: bytes) -> list[Piece]:
    headers = {"content-type": "application/json"}
    async with client.stream("POST", "/v1/completions", content=body, headers=headers) as response:
        if response.status_code != 200:
            raise Failed(f"the server answered with {response.status_code}: {(await response.aread()).decode()}")
        return [(time.monotonic(), piece) async for piece in response.aiter_raw()]


def read_events(pieces: Sequence[Piece]) -> dict[str, Any]:
    """The id of an answer, its `texts` and the `times` at which each was there whole, and the time of its last byte.

    Raises:
        Failed: if the stream says that something went wrong, or does not say that it is complete.
    """
    answer: dict[str, Any] = {"id": "", "times": [], "texts": [], "ended": pieces[-1][0] if pieces else 0.0}
    rest, data = b"", ""
    for now, piece in pieces:
        *events, rest = (rest + piece).split(b"\n\n")
        for event in events:
            data = event.decode().removeprefix("data: ")
            if data == "[DONE]":
                return answer
            chunk = json.loads(data)
            if "error" in chunk:
                raise Failed(f"an answer broke off: {chunk['error']['message']}")
            answer["id"] = chunk["id"]
            if text := "".join(choice["text"] for choice in chunk["choices"]):
                answer["times"].append(now)
                answer["texts"].append(text)
    raise Failed(f"an answer ended without [DONE], and with {data!r:.200}")


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is meant for the program, which ends this process
    try:
        found: dict[str, Any] = {"answers": [read_events(one) for one in asyncio.run(serve(json.loads(sys.stdin.readline())))]}
    except* (Failed, httpx.HTTPError) as errors:
        found = {"error": str(_first(errors)) or repr(_first(errors))}
    print(json.dumps(found), flush=True)
    sys.stdin.readline()  # stays until it is no longer looked at


def _first(errors: BaseExceptionGroup[BaseException]) -> BaseException:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


if __name__ == "__main__":
    main()
