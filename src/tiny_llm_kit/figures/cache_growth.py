"""What a KV cache holds and has room for, and how many tokens go through the model with it and without it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlx.core as mx
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tiny_llm_kit.bench.counting_model import CountingModel
from tiny_llm_kit.figures.style import HUES, canvas
from tiny_llm_ref import KvCache, generate_tokens, generate_tokens_with_cache

APPENDED = 300
PROMPT, ANSWER = 100, 50
TITLE = (
    "Two charts. Left: the tokens in a cache rise by one with each append; its room stays level and doubles when it is full,"
    f" from 64 to 128, 256 and 512. Right: with a prompt of {PROMPT} tokens, an answer of {ANSWER} puts thousands of tokens"
    " through the model without a cache, ever more per step, and hardly more than the prompt with one."
)


def draw(root: Path) -> Figure:
    """Left, the reference's cache; right, its two decode loops around a model that only counts."""
    figure = canvas(3.1)
    left, right = figure.subplots(1, 2)
    _draw_room(left)
    _draw_tokens(right)
    return figure


def _draw_room(axes: Axes) -> None:
    cache, token, room = KvCache(), mx.zeros((1, 1, 1, 1)), []
    for _ in range(APPENDED):
        cache.update_and_fetch(token, token)
        assert cache.keys is not None
        room.append(cache.keys.shape[2])
    tokens = range(1, APPENDED + 1)
    axes.plot(tokens, room, color=HUES[1], drawstyle="steps-pre", label="room")
    axes.plot(tokens, tokens, color=HUES[0], label="tokens")
    axes.set(title="one layer's cache", xlabel="tokens appended, one by one", ylim=(0, None))
    axes.set_yticks(sorted(set(room)))
    axes.legend()


def _draw_tokens(axes: Axes) -> None:
    for name, decode, hue in (("without a cache", generate_tokens, HUES[1]), ("with one", generate_tokens_with_cache, HUES[0])):
        counts = _counted(decode)
        axes.plot(range(1, ANSWER + 1), counts, color=hue, label=name)
        axes.annotate(f"{counts[-1]:,}", (ANSWER, counts[-1]), (0, 4), textcoords="offset points", ha="right", va="bottom")
    axes.set(title="tokens through the model, in all", xlabel=f"tokens of the answer, after a prompt of {PROMPT}")
    axes.set_ylim(0, 1.12 * axes.dataLim.y1)
    axes.legend()


def _counted(decode: Callable[..., Iterator[int]]) -> list[int]:
    """How many tokens have gone through the model by the time each token of the answer comes."""
    model = CountingModel(_NoModel())
    return [sum(model.lengths) for _ in decode(model, [0] * PROMPT, ANSWER)]


class _NoModel:
    """Stores what a cache wants to hold, and finds token 0 as likely as any other."""

    config = SimpleNamespace(num_layers=1)

    def __call__(self, tokens: mx.array, offset: int = 0, cache: Any = None, logits_to_keep: int = 0) -> mx.array:
        if cache is not None:
            new = mx.zeros((1, 1, tokens.shape[1], 1))
            cache[0].update_and_fetch(new, new)
        return mx.zeros((1, logits_to_keep, 1))
