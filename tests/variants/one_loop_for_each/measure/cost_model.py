"""Calls are rows of a matrix."""

from collections.abc import Sequence

import numpy as np

from tiny_llm_kit.bench.least_squares import nonnegative_least_squares
from tiny_llm_kit.course import task
from tiny_llm_kit.models.config import ModelConfig


class Roofline:
    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        table = np.array(calls, dtype=float).reshape(-1, 4)
        tokens, outputs, context, pairs = table.T
        numbers = self.weights + np.where(outputs > 0, self.output_weights, 0)
        reading = (numbers * self.bytes_per_weight + context * self.kv_bytes) / self.bandwidth
        computing = 2 * tokens * self.weights + 2 * outputs * self.output_weights + pairs * self.attention_flops
        return float(np.maximum(reading, computing / self.flops).sum() + len(table) * self.overhead)

    @property
    @task(week=2, day=7, number=6)
    def knee(self) -> float:
        reads, computes = self.bytes_per_weight / self.bandwidth, 2 / self.flops
        return reads / computes


@task(week=2, day=7, number=6)
def roofline_of(
    config: ModelConfig,
    flops: float,
    bandwidth: float,
    bytes_per_weight: float,
    kv_bytes_per_number: float,
    overhead: float = 0.0,
) -> Roofline:
    for size in (flops, bandwidth, bytes_per_weight, kv_bytes_per_number):
        if not size > 0:
            raise ValueError(f"{size} is not above 0")
    if not overhead >= 0:
        raise ValueError(f"a call can't have an overhead of {overhead} s")
    wide, queries, keys = config.hidden_size, config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    products = [(wide, queries), (wide, keys), (wide, keys), (queries, wide)] + [(wide, config.intermediate_size)] * 3
    layers = config.num_layers
    return Roofline(
        flops,
        bandwidth,
        layers * sum(m * n for m, n in products),
        wide * config.vocab_size,
        bytes_per_weight,
        layers * (keys + keys) * kv_bytes_per_number,
        layers * 2 * (queries + queries),
        overhead,
    )


class FittedCost:
    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        return float(_work(calls, self.bends) @ np.array(self.weights))


@task(week=2, day=7, number=6)
def fit_cost(
    iterations: Sequence[tuple[Sequence[Call], float]], bends: Sequence[int] = (8, 32), launch_waits: bool = False
) -> FittedCost:
    if list(bends) != sorted(set(bends)) or min(bends, default=1) <= 0:
        raise ValueError(f"tokens can't bend the cost at {list(bends)}: name ascending numbers above 0")
    if 5 + len(bends) > len(iterations):
        raise ValueError(f"{len(iterations)} iterations are too few to fit {5 + len(bends)} weights")
    shares = []
    for calls, seconds in iterations:
        if not seconds > 0:
            raise ValueError(f"an iteration of {seconds} s cannot be")
        shares.append(_work(calls, bends) / seconds)
    found = nonnegative_least_squares(np.stack(shares), np.ones(len(shares)))
    off = [abs(share @ found - 1) for share in shares]
    return FittedCost(tuple(map(float, found)), tuple(bends), float(np.mean(off)), launch_waits)


def _work(calls: Sequence[Call], bends: Sequence[int]) -> np.ndarray:
    """Calls, tokens of each stretch, outputs, keys and pairs: `(len(bends) + 5,)`."""
    table = np.array(calls, dtype=float).reshape(-1, 4)
    lows, highs = np.array([0, *bends]), np.array([*bends, np.inf])
    stretches = np.clip(table[:, :1], lows, highs) - lows
    return np.concatenate([[len(table)], stretches.sum(axis=0), table[:, 1:].sum(axis=0)])
