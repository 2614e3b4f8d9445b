"""The roofline of this machine: how fast it reads and multiplies, and what steps take compared with the least they could."""

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import mlx.core as mx

from tiny_llm_kit.bench.step_profile import LENGTH, shortest
from tiny_llm_kit.cli.tables import duration
from tiny_llm_kit.machine.fast_math import by_columns, matmul_transposed

COLUMNS = ["rows of a decode step", "roofline", "fitted", "measured", "measured / roofline"]
WIDTH, HEIGHT = 4096, 8192
"""A matrix that no cache holds: 128 MiB in float32."""
MANY = 512
BYTES = 4
"""Per number: the programs of the course compute in float32 when they compare."""


def measured_limits() -> tuple[float, float]:
    """Operations and bytes per second, of the course's own product with a large matrix: with many rows, and with one."""
    weight = by_columns(mx.ones((HEIGHT, WIDTH)))
    one, many = mx.ones((1, WIDTH)), mx.ones((MANY, WIDTH))
    mx.eval(one, many)
    bandwidth = weight.nbytes / shortest(lambda: matmul_transposed(one, weight))
    flops = 2 * MANY * weight.size / shortest(lambda: matmul_transposed(many, weight))
    return flops, bandwidth


def in_words(roofline: Any) -> str:
    """A sentence on the machine's limits."""
    return (
        f"This machine computes {roofline.flops / 1e9:.0f} GFLOP/s and reads {roofline.bandwidth / 1e9:.1f} GB/s (float32,"
        f" measured), so a step takes longer to compute than to read from {roofline.knee:.0f} rows on."
    )


def decode_rows(answer: ModuleType, roofline: Any, fit: Any, measured: Mapping[int, float]) -> list[list[str]]:
    """A table of decode steps, by their rows; each row holds `LENGTH` tokens."""
    lines = []
    for count, seconds in measured.items():
        calls = [answer.decode_call(count, LENGTH)]
        least = roofline.seconds(calls)
        cells = [duration(least), duration(fit.seconds(calls)), duration(seconds), f"{seconds / least:.1f}"]
        lines.append([str(count), *cells])
    return lines
