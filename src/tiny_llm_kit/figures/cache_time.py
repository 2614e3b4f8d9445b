"""What the next token costs without a KV cache and with one, over the length of the text: measured, and by the fit to a run.

Without a cache the next token takes a call with all tokens of the text, as a prompt of this length does; with one it takes a
decode step of one row. `pdm run bench-steps` measured both, and `pdm run predict` the fit.
"""

from pathlib import Path

from matplotlib.figure import Figure

import tiny_llm_ref
from tiny_llm_kit.bench.fits import load_fit
from tiny_llm_kit.bench.step_profile import LENGTH
from tiny_llm_kit.figures import recorded
from tiny_llm_kit.figures.style import HUES, canvas
from tiny_llm_ref import chunk_call, decode_call

TITLE = (
    "Milliseconds for the next token over the length of the text so far. Without a cache it takes 47 ms after 4 tokens and 427"
    " ms after 256, since the whole text is computed again. With a cache it takes 43 ms after 160 tokens, and about as long"
    " after any number of them."
)


def draw(root: Path) -> Figure:
    """Dots are measured; lines are what the fit makes of the same calls."""
    steps = recorded.load(root, "steps")
    fit = load_fit(tiny_llm_ref, root / "book" / "figures" / "predict.json")
    measured = {int(tokens): apart / 2 for tokens, (apart, _) in steps["prompts"].items()}
    lengths = range(4, max(measured) + 1, 2)
    without = [1e3 * fit.seconds([chunk_call(0, length, True)]) for length in lengths]
    having = [1e3 * fit.seconds([decode_call(1, length)]) for length in lengths]

    figure = canvas(3.1)
    axes = figure.subplots()
    axes.plot(lengths, without, color=HUES[1], label="without a cache: the whole text, by the fit")
    axes.plot(lengths, having, color=HUES[0], label="with one: a single token, by the fit")
    axes.scatter(list(measured), [1e3 * seconds for seconds in measured.values()], color=HUES[1], label="measured", zorder=3)
    axes.scatter([LENGTH], [1e3 * steps["decode"]["1"]], color=HUES[0], label="measured", zorder=3)
    axes.set(xlabel="tokens of the text so far", ylabel="ms for the next token", xlim=(0, None), ylim=(0, None))
    figure.legend(loc="outside upper left", ncols=2)
    return figure
