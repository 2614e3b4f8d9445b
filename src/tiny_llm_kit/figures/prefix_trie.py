"""The trie of a prefix cache after four requests, read out of the real one: references, and which leaf is evicted next."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from tiny_llm_kit.figures.style import FILL, GRID, HUES, INK, MUTED, canvas, leave_bare
from tiny_llm_ref import BlockPool, PrefixCache, admit

TITLE = (
    "The trie of a prefix cache. The first two blocks are held by the trie and by two running requests, A and B, and so they"
    " have three references. Below them are a block of A, and two of C, which has ended: those two can be evicted, and so can"
    " a block of D, which ended before C. D's leaf was used least recently, and goes first."
)
SIZE = 4
BEGINNING = ["You", "are", "a", "kind", "helper", ".", "Answer", "in"]
PROMPTS = {
    "D": [*BEGINNING, "rhyme", ":", "Where", "are", "they"],
    "C": [*BEGINNING, "prose", ":", "Who", "was", "the", "first", "to", "fly", "?"],
    "A": [*BEGINNING, "verse", ":", "What", "is", "love", "?"],
    "B": [*BEGINNING, "short"],
}
"""In the order in which they come. D and C end at once; A and B go on."""
RUNNING = ("A", "B")

Words = tuple[str, ...]
"""The words from the root to the end of a node."""


def serve(cache: PrefixCache) -> dict[str, list[int]]:
    """Admit each prompt, file its full blocks, and give back the tables of those who end. Returns the tables that stay."""
    words = sorted({word for prompt in PROMPTS.values() for word in prompt})
    tables = {}
    for name, prompt in PROMPTS.items():
        tokens = [words.index(word) for word in prompt]
        admitted = admit(cache, tokens)
        assert admitted is not None
        full = len(tokens) // SIZE
        replaced = cache.insert(tokens[: full * SIZE], admitted.table[:full])
        tables[name] = [replaced.get(block, block) for block in admitted.table]
        if name not in RUNNING:
            cache.release(tables.pop(name))
    cache.check_integrity()
    return tables


def nodes(cache: PrefixCache) -> dict[Words, int]:
    """Each node's words from the root on, and its block: what `match` finds of every prompt."""
    words = sorted({word for prompt in PROMPTS.values() for word in prompt})
    found: dict[Words, int] = {}
    for prompt in PROMPTS.values():
        for place, block in enumerate(cache.match([words.index(word) for word in prompt]).blocks, 1):
            found[tuple(prompt[: place * SIZE])] = block
    return found


def draw(root: Path) -> Figure:
    """A box per node, below its parent; a node that waits to be evicted is pale, and the next to go has a thick frame."""
    pool = BlockPool(16, SIZE)
    cache = PrefixCache(pool)
    tables = serve(cache)
    tree = nodes(cache)
    references = {block: pool.references(block) for block in tree.values()}
    held = set(cache.blocks)
    cache.evict(1)
    (goes,) = held - set(cache.blocks)

    figure = canvas(4.3)
    axes = figure.subplots()
    where = _places(tree)
    for path, block in tree.items():
        names = ["trie", *(name for name, table in tables.items() if block in table)]
        x, y = where[path]
        if path[:-SIZE] in where:
            above = where[path[:-SIZE]]
            axes.plot([above[0], x], [above[1] + 0.72, y], color=MUTED, linewidth=1.2)
        _draw_node(axes, x, y, " ".join(path[-SIZE:]), f"block {block}: {', '.join(names)}", references[block], block == goes)
    axes.set(xlim=(-1.1, 4.55), ylim=(4.35, -0.15), xticks=[], yticks=[])
    leave_bare(axes)
    return figure


def _places(tree: dict[Words, int]) -> dict[Words, tuple[float, float]]:
    """Leaves side by side, parents above the middle of their children."""
    places: dict[Words, tuple[float, float]] = {}
    columns = iter(range(len(tree)))
    for path in sorted(tree, key=lambda path: (-len(path), path)):
        below = [places[other][0] for other in tree if other[:-SIZE] == path]
        x = sum(below) / len(below) if below else 1.72 * next(columns)
        places[path] = (x, len(path) / SIZE - 1)
    return places


def _draw_node(axes: Axes, x: float, y: float, words: str, holders: str, references: int, goes: bool) -> None:
    idle = references == 1
    hue = HUES[1] if goes else HUES[0]
    axes.add_patch(Rectangle((x - 0.8, y), 1.6, 0.72, facecolor=hue, alpha=0.15 if idle else FILL, linewidth=0))
    edge, width = (HUES[1], 2.5) if goes else (GRID, 1.0)
    axes.add_patch(Rectangle((x - 0.8, y), 1.6, 0.72, fill=False, edgecolor=edge, linewidth=width))
    axes.text(x, y + 0.17, words, ha="center", va="center", fontsize=9, color=INK)
    axes.text(x, y + 0.37, holders, ha="center", va="center", fontsize=8, color=INK)
    state = "goes next" if goes else "evictable" if idle else f"{references} references"
    axes.text(x, y + 0.57, state, ha="center", va="center", fontsize=8, color=INK)
