"""What calls of the model share: the time of a decode step over its rows, and of two prompts in one call or in two.

Where reading the weights decides, a further row costs little; where computing decides, it costs what it costs alone.
"""

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.step_profile import shortest
from tiny_llm_kit.cli.tables import duration

ROWS = (1, 2, 4, 8, 16, 32)
PROMPT_TOKENS = (4, 16, 64, 128, 256)
DECODE_COLUMNS = ["rows of a decode step", "time", "per row", "tokens/s", "times one row"]
PROMPT_COLUMNS = ["tokens of each of two prompts", "two calls", "one call", "saved"]


def two_prompts(model: Any, tokens: int) -> tuple[float, float]:
    """Seconds for two prompts of this many tokens, in two calls of the model and in one."""
    one, both = (mx.full((prompts, tokens), 32, dtype=mx.uint32) for prompts in (1, 2))
    return 2 * shortest(lambda: model(one, logits_to_keep=1)), shortest(lambda: model(both, logits_to_keep=1))


def decode_rows(seconds: Mapping[int, float]) -> list[list[str]]:
    """A table of decode steps, by their rows; the first has one."""
    return [
        [str(rows), duration(s), duration(s / rows), f"{rows / s:.1f}", f"{s / seconds[1]:.1f}"] for rows, s in seconds.items()
    ]


def prompt_rows(seconds: Mapping[int, tuple[float, float]]) -> list[list[str]]:
    """A table of pairs of prompts, by their tokens."""
    return [
        [str(tokens), duration(two_calls), duration(one_call), f"{1 - one_call / two_calls:.0%}"]
        for tokens, (two_calls, one_call) in seconds.items()
    ]
