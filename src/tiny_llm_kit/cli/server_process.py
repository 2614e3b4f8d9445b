"""A server as a process: it takes its port, says when it is ready, and shuts down cleanly when it is told to."""

import asyncio
import contextlib
import errno
import signal
import socket
from collections.abc import Callable, Generator
from typing import Any, Protocol

import click
import uvicorn

CLOSING_SECONDS = 5.0
"""After the answers have ended: for connections to take what has been written."""

_UNREAD_SECONDS = 60
"""For data that a client's machine does not acknowledge, or a client does not read: then its connection is gone."""


class Drained(Protocol):
    """The part of an `EngineThread` that ends it."""

    async def drain(self, timeout: float) -> bool: ...


def take_port(host: str, port: int) -> socket.socket:
    """A socket at this address that does not listen yet: clients that connect before the server is ready are refused, not kept
    waiting.

    Raises:
        click.ClickException: if the port is in use.
        ValueError: if there is no such address, or it can't be used.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        taken = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ValueError(f"--host {host!r} is not an address: {error.strerror}") from None
    try:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # connections inherit it
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            taken.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_SECONDS * 1000)
        taken.bind(address)
    except OSError as error:
        taken.close()
        if error.errno == errno.EADDRINUSE:
            raise click.ClickException(
                f"port {port} of {host} is in use: stop what runs there, or choose another with --port (0 takes any)"
            ) from None
        raise ValueError(f"can't listen at port {port} of {host}: {error.strerror}") from None
    return taken


class Server(uvicorn.Server):
    """Serves the app, leaves signals to the caller, and says in its event loop when it is ready."""

    def __init__(self, app: Any, ready: Callable[[], None], access_log: bool = False) -> None:
        config = uvicorn.Config(
            app,
            access_log=access_log,
            log_level="info" if access_log else "warning",
            timeout_graceful_shutdown=int(CLOSING_SECONDS),
            server_header=False,
        )
        super().__init__(config)
        self.ready = ready

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready()


def run_server(
    app: Any,
    taken: socket.socket,
    engine: Drained,
    drain_timeout: float,
    *,
    access_log: bool = False,
    ready: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = click.echo,
) -> None:
    """Serve the app until SIGTERM or SIGINT; then let the open answers end, for at most `drain_timeout` seconds.

    Meanwhile the app says to new requests that it is draining. A second signal ends everything at once.
    """
    asyncio.run(_serve(Server(app, ready, access_log), taken, engine, drain_timeout, say))


async def _serve(
    server: Server, taken: socket.socket, engine: Drained, drain_timeout: float, say: Callable[[str], None]
) -> None:
    told, told_again = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        (told_again if told.is_set() else told).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, hear)
    serving = asyncio.create_task(server.serve([taken]))
    serving.add_done_callback(lambda _: told.set())
    await told.wait()
    if not serving.done():
        say(f"Draining: open answers may end, for at most {drain_timeout:g} s. Once more ends them at once.")
        draining, hurried = asyncio.ensure_future(engine.drain(drain_timeout)), asyncio.ensure_future(told_again.wait())
        await asyncio.wait([draining, hurried], return_when=asyncio.FIRST_COMPLETED)
        server.should_exit, server.force_exit = True, told_again.is_set()
    await serving
