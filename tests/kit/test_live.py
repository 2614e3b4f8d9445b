"""What a person sees while a batch runs, in a terminal and without one."""

import io
import time
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from tiny_llm_kit.cli.live import LiveView, PlainView, make_view
from tiny_llm_kit.cli.progress import Heartbeat


def request(number: int, state: str, **changes: Any) -> Any:
    fields = {"prompt": [1] * 10, "max_tokens": 8, "offset": 4, "generated_tokens": [], "text": "", "finish_reason": None}
    return SimpleNamespace(request_id=number, state=state, **(fields | changes))


class Slots:
    """As many rows as slots, some of which are taken."""

    column = "slot"

    def __init__(self, slot_of: dict[int, int], rows: int, memory: str = "") -> None:
        self.slot_of = slot_of
        self.rows = rows
        self.line = memory

    def place(self, request: Any) -> tuple[int, str]:
        slot = self.slot_of.get(request.request_id)
        return (self.rows, "…") if slot is None else (slot, str(slot))

    def memory(self) -> str:
        return self.line


def test_without_a_terminal_there_is_a_line_for_each_event() -> None:
    out = io.StringIO()
    someone, other = request(1, "waiting"), request(2, "waiting")
    view = make_view(Console(file=out, width=100), [someone, other], ["Hello [there]", "Later"], Slots({}, 1), lambda: 42.0)
    assert isinstance(view, PlainView)
    with view:
        view.show([], waiting=2)
        someone.state = "prefilling"
        view.show([someone], waiting=1)
        view.show([someone], waiting=1)
        someone.state, someone.finish_reason, someone.generated_tokens = "finished", "stop", [5, 6]
        view.show([], waiting=1)
    lines = out.getvalue().splitlines()
    assert len(lines) == 2, "one line when it is admitted, one when it ends, none while nothing changes"
    assert "+ Hello [there]: 10 prompt tokens; 1 running, 1 waiting" in lines[0]
    assert "- Hello [there]: 2 tokens, stop" in lines[1]


def test_when_nothing_happens_there_is_a_line_with_the_time_that_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Heartbeat.__init__, "__defaults__", (0.02,))
    out = io.StringIO()
    with make_view(Console(file=out, width=100), [request(1, "decoding")], ["Hello"], Slots({}, 1), lambda: 42.0):
        for _ in range(500):
            if "0 of 1 requests answered; at most 45 s left" in out.getvalue():
                return
            time.sleep(0.01)
    raise AssertionError(f"no sign of life came in 5 seconds, only {out.getvalue()!r}")


def test_in_a_terminal_the_slots_are_drawn() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=30)
    reading = request(1, "prefilling")
    writing = request(2, "decoding", offset=12, generated_tokens=[1, 2], text="a [bold] an\x1b[2Jswer")
    view = make_view(console, [reading, writing], ["fi\x1b[2Jrst", "[bold]second"], Slots({2: 0}, 3), lambda: 42.0)
    assert isinstance(view, LiveView)
    with view:
        view.show([reading, writing], waiting=5)
        view.live.refresh()
    shown = out.getvalue()
    for part in ("fi␛[2Jrst", "[bold]second", "2/8", "a [bold] an␛[2Jswer", "free", "5 waiting", "0 of 2", "at most 45 s left"):
        assert part in shown, f"{part!r} is missing"


def test_who_is_preempted_and_what_the_memory_holds_is_told() -> None:
    out = io.StringIO()
    someone = request(1, "prefilling", generated_tokens=[5])
    with make_view(
        Console(file=out, width=200), [someone], ["Hello"], Slots({}, 0, "blocks: 3 of 9 used"), lambda: 42.0
    ) as view:
        view.show([someone], waiting=0)
        someone.state = "waiting"
        view.show([], waiting=1)
        someone.state = "decoding"
        view.show([someone], waiting=0)
    admitted, preempted, again = out.getvalue().splitlines()
    assert "1 running, 0 waiting; blocks: 3 of 9 used" in admitted
    assert "~ Hello: 1 tokens, preempted, waits again" in preempted
    assert "+ Hello" in again


def test_more_requests_than_a_terminal_has_lines_are_counted() -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=20)
    running = [request(number, "decoding") for number in range(40)]
    places = Slots({}, 0, "blocks: 3 of 9 used")
    with make_view(console, running, [f"request {number}." for number in range(40)], places, lambda: 42.0) as view:
        view.show(running, waiting=5)
        assert isinstance(view, LiveView)
        view.live.refresh()
    shown = out.getvalue()
    for part in ("request 0.", "request 5.", "others", "blocks: 3 of 9 used", "at most 45 s left"):
        assert part in shown, f"{part!r} is missing"
    assert "request 30." not in shown
