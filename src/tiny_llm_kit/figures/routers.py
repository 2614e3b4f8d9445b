"""Where the turns of five conversations go under four routers: the course's own, asked on the spot.

A turn's prompt is the whole conversation so far. A replica has what it was sent before, and forgets nothing.
"""

from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import ConsistentHash, LeastTokens, PrefixAware, RoundRobin, RoutedRequest, Router, block_keys

TITLE = (
    "Twenty turns of five conversations in order of arrival, on three replicas, under four routers. Round robin and least"
    " tokens scatter each conversation over several replicas, where many turns find nothing. With consistent hashing and"
    " prefix-aware routing every turn after a conversation's first finds all before it. The hash gives one replica nearly"
    " three times as much to compute as another; prefix-aware routing gives all three about the same."
)
ORDER = "ABCDABECADBCEADBAECD"
REPLICAS = ("replica 0", "replica 1", "replica 2")
BLOCK = 16
FIRST = {"A": 192, "B": 64, "C": 128, "D": 64, "E": 96}
"""Tokens of each conversation's first prompt."""
TURN, ANSWER = 48, 32
"""Tokens that each later turn adds, and tokens of an answer at most."""
OPEN = 4
"""A request has ended when this many others have come after it."""


@dataclass(frozen=True)
class Turn:
    """Who it is, where it went, how long its prompt is, and how much of that its replica had."""

    name: str
    number: int
    replica: str
    prompt: int
    found: int


def routers() -> dict[str, Router]:
    """New ones, by what the figure calls them."""
    return {
        "round robin": RoundRobin(),
        "least tokens": LeastTokens(),
        "consistent hash": ConsistentHash(),
        "prefix-aware": PrefixAware(BLOCK),
    }


def route(router: Router) -> list[Turn]:
    """Ask the router for each turn, and keep its books as a sender of requests would."""
    turns: list[Turn] = []
    sent: list[tuple[RoutedRequest, str]] = []
    caches: dict[str, set[bytes]] = {name: set() for name in REPLICAS}
    for place, name in enumerate(ORDER):
        number = ORDER[:place].count(name)
        prompt = [1000 * ORDER.index(name) + token for token in range(FIRST[name] + TURN * number)]
        request = RoutedRequest(f"{name}{number + 1}", prompt, ANSWER, session=f"conversation {name}")
        if place >= OPEN:
            router.finished(*sent[place - OPEN])
        replica = router.choose(request, REPLICAS)[0]
        router.started(request, replica)
        sent.append((request, replica))
        keys = block_keys(prompt, BLOCK)
        found = BLOCK * sum(key in caches[replica] for key in keys)
        caches[replica].update(keys)
        turns.append(Turn(name, number + 1, replica, len(prompt), found))
    return turns


def draw(root: Path) -> Figure:
    """A panel per router, a lane per replica; the full part of a box is what the replica had."""
    figure = canvas(6.4)
    asked = routers()
    for axes, (title, router) in zip(figure.subplots(len(asked), 1), asked.items(), strict=True):
        _draw_router(axes, title, route(router))
    return figure


def _draw_router(axes: Axes, title: str, turns: list[Turn]) -> None:
    names = sorted(set(ORDER))
    for lane, replica in enumerate(REPLICAS):
        computed = sum(turn.prompt - turn.found for turn in turns if turn.replica == replica)
        axes.axhline(lane + 0.5, color=GRID, linewidth=0.8, zorder=0)
        axes.text(len(turns) + 0.3, lane + 0.5, f"{computed:,}", va="center", fontsize=9, color=INK)
    axes.text(len(turns) + 0.3, -0.25, "computed", va="center", fontsize=8, color=MUTED)
    for column, turn in enumerate(turns):
        lane, hue = REPLICAS.index(turn.replica), HUES[names.index(turn.name)]
        corner, share = (column + 0.06, lane + 0.1), turn.found / turn.prompt
        pale = 0.8 * (1 - share)
        axes.add_patch(Rectangle(corner, 0.88, pale, facecolor=hue, alpha=0.15, linewidth=0))
        below = (corner[0], corner[1] + pale)
        axes.add_patch(Rectangle(below, 0.88, 0.8 - pale, facecolor=hue, alpha=FILL, linewidth=0))
        axes.add_patch(Rectangle(corner, 0.88, 0.8, fill=False, edgecolor=hue, linewidth=1.0))
        axes.text(column + 0.5, lane + 0.5, f"{turn.name}{turn.number}", ha="center", va="center", fontsize=9, color=INK)
    found, prompts = sum(turn.found for turn in turns), sum(turn.prompt for turn in turns)
    axes.set_title(f"{title}: {100 * found / prompts:.0f} % of {prompts:,} prompt tokens were cached")
    axes.set(xlim=(0, len(turns) + 2.2), ylim=(len(REPLICAS), -0.4), xticks=[])
    axes.set_yticks([lane + 0.5 for lane in range(len(REPLICAS))], REPLICAS)
    axes.tick_params(length=0)
    leave_bare(axes)
