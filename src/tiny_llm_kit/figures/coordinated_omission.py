"""What a stall does to those who come meanwhile, and what a client sees of it that measures from when it sent.

A server that stops once is loaded by the course's own open loop.
"""

from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.patches import Patch

from tiny_llm_kit.figures.style import GROUND, HUES, MUTED, canvas
from tiny_llm_ref import Request, RequestBook, RunRecorder, open_loop

TITLE = (
    "Ten requests, one wanted per second, on a server that takes half a second for each and stops for four seconds during"
    " the fourth. Bars go from when a request was wanted to its answer. From the fourth on all are long, and most of each bar"
    " is the time before the request was sent, which a client that measures from then leaves out."
)
REQUESTS, SERVICE, STALLED, STALL = 10, 0.5, 3, 4.0
"""How many, seconds for each, which one is stalled (counted from 0), and for how many seconds."""


class StallingServer(RequestBook):
    """Answers one request per step, on a clock of its own."""

    def __init__(self) -> None:
        super().__init__(max_seq_len=2, vocab_size=1, clock=lambda: self.now)
        self.now = 0.0
        self.answered = 0

    def step(self) -> list[Request]:
        """Answer the first that waits."""
        request = next(iter(self.waiting.values()))
        self.admit(request)
        self.now += SERVICE + (STALL if self.answered == STALLED else 0.0)
        self.answered += 1
        return self.close_iteration(1, 1, len(self.waiting), self.take(request, 0))

    def sleep(self, seconds: float) -> None:
        """Set the clock forward."""
        self.now += seconds


def answers() -> list[float]:
    """When each is answered, in seconds after the start; request i is wanted at second i."""
    server, recorder = StallingServer(), RunRecorder()
    server.event_log.readers.append(recorder.read)
    requests = [Request([0], 1) for _ in range(REQUESTS)]
    open_loop(server, requests, [float(second) for second in range(REQUESTS)], recorder, server.sleep)
    return [times.arrived + (times.latency or 0.0) for times in recorder.requests.values()]


def draw(root: Path) -> Figure:
    """A bar per request, split where the server takes it up; and the latency by both ways to count."""
    ends = answers()
    begins = [max(float(wanted), before) for wanted, before in zip(range(REQUESTS), [0.0, *ends], strict=False)]
    figure = canvas(3.6)
    axes = figure.subplots()
    for row, (begin, end) in enumerate(zip(begins, ends, strict=True)):
        axes.barh(row, begin - row, left=row, height=0.62, color=HUES[1], alpha=0.35, linewidth=0)
        axes.barh(row, end - begin, left=begin, height=0.62, color=HUES[0], alpha=0.8, linewidth=0)
        axes.text(11.8, row, f"{end - row:.1f} s", va="center", ha="right")
        axes.text(13.8, row, f"{end - begin:.1f} s", va="center", ha="right")
    axes.text(11.8, -1, "from wanted", va="center", ha="right", color=MUTED)
    axes.text(13.8, -1, "from sent", va="center", ha="right", color=MUTED)
    axes.axvspan(STALLED, STALLED + STALL, color=MUTED, alpha=0.12, linewidth=0)
    axes.text(STALLED + STALL / 2, -1, "the server stops", va="center", ha="center", color=MUTED, backgroundcolor=GROUND)
    axes.set(xlim=(-0.2, 13.9), ylim=(REQUESTS - 0.4, -1.6), xlabel="seconds")
    axes.set_xticks(range(0, 11, 2))
    axes.set_yticks(range(REQUESTS), [f"wanted at {second}" for second in range(REQUESTS)])
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.spines[["left", "bottom"]].set_visible(False)
    bars = [Patch(color=HUES[1], alpha=0.35), Patch(color=HUES[0], alpha=0.8)]
    names = ["wanted, waiting for the answers before it", "being answered"]
    figure.legend(bars, names, loc="outside upper left", ncols=2)
    return figure
