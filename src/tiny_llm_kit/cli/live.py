"""What a person sees while a batch runs: a live picture in a terminal, plain lines elsewhere.

A view only observes: it sees the requests and the scheduler after each step, and remembers what it needs to report changes.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tiny_llm_kit.cli.progress import Heartbeat
from tiny_llm_kit.cli.tables import minutes
from tiny_llm_kit.cli.text import harmless

SecondsLeft = Callable[[], float]

_OTHER_LINES = 9
"""Lines of a terminal above and below the rows of requests."""


class ShownRequest(Protocol):
    """The part of a request that is shown."""

    prompt: Sequence[int]
    max_tokens: int
    offset: int
    generated_tokens: list[int]
    text: str
    finish_reason: str | None
    request_id: int

    @property
    def state(self) -> str: ...


class View(Protocol):
    """Shows the state after a step, and stays tidy however the block ends."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *error: object) -> None: ...
    def show(self, running: Sequence[ShownRequest], waiting: int) -> None:
        """`running` are the admitted requests, the oldest first, `waiting` is how many others there are."""


class Places(Protocol):
    """What an engine's requests share, and how much of it each one has; see `ServedEngine`."""

    column: str
    rows: int

    def place(self, request: Any) -> tuple[int, str]: ...
    def memory(self) -> str: ...


def make_view(
    console: Console, requests: Sequence[ShownRequest], labels: Sequence[str], places: Places, seconds_left: SecondsLeft
) -> View:
    """The view that suits the console. `seconds_left` is asked for whenever something is shown."""
    names = {request.request_id: harmless(label) for request, label in zip(requests, labels, strict=True)}
    kind = LiveView if console.is_terminal else PlainView
    return kind(console, requests, names, places, seconds_left)


def _progress(requests: Sequence[ShownRequest], seconds_left: SecondsLeft) -> str:
    done = sum(request.finish_reason is not None for request in requests)
    left = f"; at most {minutes(seconds_left())} left" if done < len(requests) else ""
    return f"{done} of {len(requests)} requests answered{left}"


class PlainView:
    """A line when a request is admitted, a line when it ends, and a line when nothing has happened for some seconds."""

    def __init__(
        self,
        console: Console,
        requests: Sequence[ShownRequest],
        names: Mapping[int, str],
        places: Places,
        seconds_left: SecondsLeft,
    ) -> None:
        self.requests = requests
        self.names = names
        self.places = places
        self.announced: dict[int, str] = {}
        self.heartbeat = Heartbeat(console, lambda: _progress(requests, seconds_left))

    def __enter__(self) -> Self:
        self.heartbeat.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.heartbeat.__exit__(*error)

    def show(self, running: Sequence[ShownRequest], waiting: int) -> None:
        memory = self.places.memory()
        for request in self.requests:
            news = "waiting" if request.state == "waiting" else "finished" if request.finish_reason else "running"
            if news == self.announced.get(request.request_id, "waiting"):
                continue
            self.announced[request.request_id] = news
            name = self.names[request.request_id]
            if news == "running":
                crowd = f"{len(running)} running, {waiting} waiting"
                self.heartbeat.line(f"+ {name}: {len(request.prompt)} prompt tokens; {crowd}{memory and f'; {memory}'}")
            elif news == "waiting":
                self.heartbeat.line(f"~ {name}: {len(request.generated_tokens)} tokens, preempted, waits again")
            else:
                self.heartbeat.line(f"- {name}: {len(request.generated_tokens)} tokens, {request.finish_reason}")


class LiveView:
    """A row per slot or running request: its name, how far the prompt has been read, and the last words of the answer."""

    def __init__(
        self,
        console: Console,
        requests: Sequence[ShownRequest],
        names: Mapping[int, str],
        places: Places,
        seconds_left: SecondsLeft,
    ) -> None:
        self.requests = requests
        self.names = names
        self.places = places
        self.seconds_left = seconds_left
        self.started = time.perf_counter()
        self.live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> Self:
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.live.stop()

    def show(self, running: Sequence[ShownRequest], waiting: int) -> None:
        self.live.update(Group(self._header(waiting), self._places(running), self._footer()))

    def _header(self, waiting: int) -> Text:
        tokens = sum(len(request.generated_tokens) for request in self.requests)
        seconds = time.perf_counter() - self.started
        return Text.assemble(
            ("continuous batching  ", "bold"),
            f"{seconds:5.1f} s   {tokens} tokens   {tokens / max(seconds, 1e-9):5.1f} tokens/s   {waiting} waiting",
        )

    def _places(self, running: Sequence[ShownRequest]) -> Table:
        table = Table(expand=True, pad_edge=False)
        table.add_column(self.places.column, justify="right", width=len(self.places.column))
        table.add_column("request", width=24, no_wrap=True)
        table.add_column("prompt", width=12)
        table.add_column("answer", width=10, justify="right")
        table.add_column("text", ratio=1, no_wrap=True)
        rows: list[tuple[int, list[RenderableType]]] = []
        for request in running:
            order, place = self.places.place(request)
            row: list[RenderableType] = [
                place,
                Text(self.names[request.request_id]),
                ProgressBar(total=len(request.prompt), completed=min(request.offset, len(request.prompt)), width=12),
                f"{len(request.generated_tokens)}/{request.max_tokens}",
                Text(harmless(request.text[-200:].replace("\n", " "))[-self._text_width() :]),
            ]
            rows.append((order, row))
        room = max(self.places.rows, self.live.console.height - _OTHER_LINES)
        for _, row in sorted(rows, key=lambda item: item[0])[:room]:
            table.add_row(*row)
        if len(rows) > room:
            table.add_row("", Text(f"and {len(rows) - room} others", style="dim"), "", "", "")
        for _ in range(self.places.rows - len(rows)):
            table.add_row("", Text("free", style="dim"), "", "", "")
        return table

    def _text_width(self) -> int:
        return max(10, self.live.console.width - 64)

    def _footer(self) -> Text:
        lines = [self.places.memory(), _progress(self.requests, self.seconds_left)]
        return Text("\n".join(line for line in lines if line), style="dim")
