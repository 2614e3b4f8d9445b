"""Logs made by hand, for tests of timelines."""

from typing import Any

from tiny_llm_kit.timeline import Recorder
from tiny_llm_kit.timeline.run import Life, Run
from tiny_llm_ref import EventKind, EventLog


class Play:
    """An engine's log on a clock that the test sets: `at(2.0).arrived(1, 5)`, then `step()`."""

    def __init__(self, *recorders: Recorder) -> None:
        self.now = 0.0
        self.log = EventLog(lambda: self.now)
        self.log.readers += [recorder.read for recorder in recorders]

    def at(self, now: float) -> "Play":
        self.now = now
        return self

    def arrived(self, number: int, tokens: int = 3) -> "Play":
        return self._record(EventKind.ARRIVED, number, tokens)

    def admitted(self, number: int) -> "Play":
        return self._record(EventKind.ADMITTED, number)

    def chunk(self, number: int, tokens: int = 3, position: int = 0) -> "Play":
        return self._record(EventKind.PREFILL_CHUNK, number, tokens, position or tokens)

    def first_token(self, number: int) -> "Play":
        return self._record(EventKind.FIRST_TOKEN, number)

    def token(self, number: int) -> "Play":
        return self._record(EventKind.TOKEN, number)

    def preempted(self, number: int) -> "Play":
        return self._record(EventKind.PREEMPTED, number)

    def finished(self, number: int, tokens: int = 1) -> "Play":
        return self._record(EventKind.FINISHED, number, tokens)

    def cancelled(self, number: int, tokens: int = 0) -> "Play":
        return self._record(EventKind.CANCELLED, number, tokens)

    def failed(self, number: int, tokens: int = 0) -> "Play":
        return self._record(EventKind.FAILED, number, tokens)

    def step(self, active: int = 1, queue: int = 0, slots: int = 4) -> "Play":
        self.log.close_step(active, slots, queue, 0)
        return self

    def _record(self, kind: EventKind, *arguments: Any) -> "Play":
        self.log.record(kind, *arguments)
        return self


def alone(play: Play, number: int, begin: float, steps: int) -> None:
    """A request that is launched at `begin`, and whose tokens come back one second apart."""
    play.at(begin).arrived(number).admitted(number).chunk(number).step()
    for step in range(1, steps + 1):
        play.at(begin + step)
        (play.first_token if step == 1 else play.token)(number)
        if step == steps:
            play.finished(number, steps)
        play.step(active=int(step < steps))


def everything() -> Run:
    """A run in which all that can happen to a request happens; a name is not safe to be put into a page as it is."""
    recorder = Recorder("a <b>run</b>", names=["<script>alert(1)</script>", 'q"uote&'], block_size=2)
    play = Play(recorder)
    play.at(1).arrived(1).arrived(2).arrived(3).arrived(4).arrived(5)
    play.admitted(1).chunk(1).admitted(2).chunk(2, 2).step(2, 3)
    play.at(2).chunk(2, 1, 3).admitted(3).chunk(3).first_token(1).step(3, 2)
    play.at(3).cancelled(4).preempted(1).failed(3).first_token(2).step(1, 2)
    play.at(4).chunk(1, 4).token(2).finished(2, 2).step(1, 1)
    play.at(5).token(1).cancelled(1, 2).step(0, 1)
    play.at(6).arrived(6).admitted(6).chunk(6).step(1, 1).at(7).step(1, 1)
    return recorder.run()


def lives(run: Run) -> dict[str, Life]:
    return {life.name: life for life in run.lives}


def stays(run: Run) -> list[list[tuple[int, float, float | None]]]:
    """Lane, begin and end of the stays of each request."""
    return [[(stay.lane, stay.begin, stay.end) for stay in life.stays] for life in run.lives]
