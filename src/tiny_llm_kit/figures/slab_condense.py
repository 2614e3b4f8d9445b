"""The slab of a batch before and after its slots are condensed, read out of the real cache."""

from pathlib import Path

import mlx.core as mx
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import BatchingKvCache, KvCache, SlotManager

TITLE = (
    "A slab of four rows, before and after. At first the rows hold A, B, C and D. B leaves, and its keys stay in row 1, which"
    " no request owns. Then D moves from row 3 to row 1: three rows without a gap, and stale keys in row 3 and after D's own."
)
TOKENS = {"A": 5, "B": 7, "C": 3, "D": 4}
COLUMNS = 8


def draw(root: Path) -> Figure:
    """Full cells belong to a request; pale ones are stale: they hold keys of a request that has left or moved."""
    slots, cache = SlotManager(len(TOKENS)), BatchingKvCache(len(TOKENS), COLUMNS)
    for number, tokens in enumerate(TOKENS.values(), 1):
        slot = slots.allocate_slot(number)
        assert slot is not None
        cache.add_request(_filled(tokens, number), slot)
    states = {"all four run": _cells(cache)}
    cache.remove_request(slots.free_slot(2))
    states["B has left"] = _cells(cache)
    for source, target in slots.condense():
        cache.move_request(source, target)
    states["condensed: D has moved"] = _cells(cache)

    figure = canvas(1.5)
    for axes, (name, (held, owned)) in zip(figure.subplots(1, 3), states.items(), strict=True):
        _draw_slab(axes, name, held, owned)
    return figure


def _filled(tokens: int, number: int) -> KvCache:
    """A prefilled cache whose every key is the request's number."""
    cache, keys = KvCache(), mx.full((1, 1, tokens, 1), float(number))
    cache.update_and_fetch(keys, keys)
    return cache


def _cells(cache: BatchingKvCache) -> tuple[np.ndarray, np.ndarray]:
    """For each slot and column: whose key is there (0: none), and whether it is a token of the slot's owner."""
    held = np.array(cache.slabs[0][:, 0, :COLUMNS, 0]).astype(int)
    lengths = np.array([cache.lengths.get(slot, 0) for slot in range(len(held))])
    return held, np.arange(COLUMNS) < lengths[:, None]


def _draw_slab(axes: Axes, name: str, held: np.ndarray, owned: np.ndarray) -> None:
    letters = ["", *TOKENS]
    for (slot, column), number in np.ndenumerate(held):
        mine = bool(owned[slot, column])
        if number:
            face = HUES[number - 1]
            axes.add_patch(Rectangle((column, slot), 1, 1, facecolor=face, alpha=FILL if mine else 0.12, linewidth=0))
            axes.text(column + 0.5, slot + 0.5, letters[number], ha="center", va="center", color=INK if mine else MUTED)
        axes.add_patch(Rectangle((column, slot), 1, 1, fill=False, edgecolor=GRID))
    axes.set(title=name, xlim=(0, COLUMNS), ylim=(len(held), 0), aspect="equal", xticks=[])
    axes.set_yticks(np.arange(len(held)) + 0.5, [f"slot {slot}" for slot in range(len(held))])
    axes.tick_params(length=0)
    leave_bare(axes)
