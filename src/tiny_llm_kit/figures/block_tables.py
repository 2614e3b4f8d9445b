"""Three block tables over one pool, read out of the real one: where each block is, who holds it, and how often."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import BlockPool, slot_mapping

TITLE = (
    "A pool of ten blocks of four tokens, and the block tables of three requests. A has blocks 0, 1 and 2, B has 0, 4 and 5,"
    " and C has 3. Block 0 is in the tables of both A and B, so it has two references. Four blocks are free."
)
BLOCKS, SIZE = 10, 4
LENGTHS = {"A": 10, "B": 11, "C": 3}
SHARED = 3  # the hue of a block that two tables name
STEP = 1.25
"""From one block to the next, in widths of a block."""


def tables(pool: BlockPool) -> dict[str, list[int]]:
    """A and an earlier request come first; B begins as A does; then the earlier one leaves, C comes, and A goes on."""
    first, earlier = _take(pool, 2), _take(pool, 2)
    pool.share(first[:1])
    second = [first[0], *_take(pool, 2)]
    pool.release(earlier)
    third = _take(pool, 1)
    first += _take(pool, 1)
    return {"A": first, "B": second, "C": third}


def _take(pool: BlockPool, count: int) -> list[int]:
    blocks = pool.allocate(count)
    assert blocks is not None
    return blocks


def draw(root: Path) -> Figure:
    """The pool above, the tables below, and a line from each entry to the block that it names."""
    pool = BlockPool(BLOCKS, SIZE)
    held = tables(pool)
    pool.check_integrity(held.values())
    figure = canvas(3.3)
    axes = figure.subplots()
    _draw_pool(axes, pool, held)
    left = 0.0
    for name, table in held.items():
        axes.text(left + 0.1, 4.65, f"{name}: {LENGTHS[name]} tokens", va="top", fontsize=9)
        for place, block in enumerate(table):
            hue = HUES[SHARED] if pool.references(block) > 1 else HUES[list(held).index(name)]
            axes.plot([left + place + 0.5, block * STEP + 0.5], [3.6, 1.35], color=hue, linewidth=1.0)
            _box(axes, left + place, 3.6, 0.8, hue, f"{block}")
        left += len(table) + 1.6
    axes.text(-0.15, 4.0, "tables", ha="right", va="center", fontsize=9)
    axes.set(xlim=(-1.9, BLOCKS * STEP), ylim=(5.1, -0.5), xticks=[], yticks=[])
    leave_bare(axes)
    return figure


def _draw_pool(axes: Axes, pool: BlockPool, held: dict[str, list[int]]) -> None:
    owners = {slot: name for name, table in held.items() for slot in slot_mapping(table, 0, LENGTHS[name], pool.block_size)}
    for block in range(pool.num_blocks):
        left, references = block * STEP, pool.references(block)
        names = [name for name, table in held.items() if block in table]
        for place in range(SIZE):
            owner = owners.get(block * SIZE + place)
            if owner:
                hue = HUES[SHARED] if references > 1 else HUES[list(held).index(owner)]
                part = (left + place / SIZE, 0)
                axes.add_patch(Rectangle(part, 1 / SIZE, 1, facecolor=hue, alpha=FILL, edgecolor=GRID))
        axes.add_patch(Rectangle((left, 0), 1, 1, fill=False, edgecolor=INK if references else MUTED))
        axes.text(left + 0.5, 0.5, " ".join(names), ha="center", va="center", fontsize=9)
        axes.text(left + 0.5, -0.12, f"{block}", ha="center", va="bottom", fontsize=9, color=MUTED)
        axes.text(left + 0.5, 1.07, f"{references}" if references else "free", ha="center", va="top", fontsize=8, color=MUTED)
    axes.text(-0.15, -0.12, "block", ha="right", va="bottom", fontsize=9, color=MUTED)
    axes.text(-0.15, 0.5, "pool", ha="right", va="center", fontsize=9)
    axes.text(-0.15, 1.07, "references", ha="right", va="top", fontsize=8, color=MUTED)


def _box(axes: Axes, left: float, top: float, height: float, hue: str, text: str) -> None:
    axes.add_patch(Rectangle((left, top), 1, height, facecolor=hue, alpha=FILL, edgecolor=GRID))
    axes.text(left + 0.5, top + height / 2, text, ha="center", va="center", fontsize=9)
