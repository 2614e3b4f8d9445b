"""Costs by hand, call by call."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tiny_llm_kit.bench.least_squares import nonnegative_least_squares
from tiny_llm_kit.course import task
from tiny_llm_kit.models.config import ModelConfig


class Roofline:
    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        return sum((self._of_one(call) for call in calls), 0.0)

    def _of_one(self, call: Call) -> float:
        table = self.output_weights if call.outputs else 0
        from_memory = self.bytes_per_weight * (self.weights + table) + self.kv_bytes * call.context
        operations = 2 * self.weights * call.tokens + 2 * self.output_weights * call.outputs
        operations += self.attention_flops * call.pairs
        return self.overhead + max(from_memory / self.bandwidth, operations / self.flops)

    @property
    @task(week=2, day=7, number=6)
    def knee(self) -> float:
        return 0.5 * self.flops / (self.bandwidth / self.bytes_per_weight)


@task(week=2, day=7, number=6)
def roofline_of(
    config: ModelConfig,
    flops: float,
    bandwidth: float,
    bytes_per_weight: float,
    kv_bytes_per_number: float,
    overhead: float = 0.0,
) -> Roofline:
    if not (flops > 0 and bandwidth > 0):
        raise ValueError(f"a machine with {flops} operations and {bandwidth} bytes per second")
    if not (bytes_per_weight > 0 and kv_bytes_per_number > 0):
        raise ValueError(f"numbers of {bytes_per_weight} and {kv_bytes_per_number} bytes")
    if not overhead >= 0:
        raise ValueError(f"calls with an overhead of {overhead} s")
    head, width, per_layer = config.head_dim, config.hidden_size, 0
    per_layer += 2 * width * head * (config.num_heads + config.num_kv_heads)  # Q and O, K and V
    per_layer += 3 * width * config.intermediate_size
    return Roofline(
        flops=flops,
        bandwidth=bandwidth,
        weights=per_layer * config.num_layers,
        output_weights=config.vocab_size * width,
        bytes_per_weight=bytes_per_weight,
        kv_bytes=config.num_layers * config.num_kv_heads * head * 2 * kv_bytes_per_number,
        attention_flops=4 * config.num_heads * head * config.num_layers,
        overhead=overhead,
    )


class FittedCost:
    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        prices = self.weights[1:-3]
        return sum(
            self.weights[0]
            + sum(price * count for price, count in zip(prices, _stretches(call.tokens, self.bends), strict=True))
            + sum(price * count for price, count in zip(self.weights[-3:], call[1:], strict=True))
            for call in calls
        )


@task(week=2, day=7, number=6)
def fit_cost(
    iterations: Sequence[tuple[Sequence[Call], float]], bends: Sequence[int] = (8, 32), launch_waits: bool = False
) -> FittedCost:
    if not all(before < bend for before, bend in pairwise([0, *bends])):
        raise ValueError(f"bends have to grow, from above 0: {bends}")
    unknown = len(bends) + 5
    if len(iterations) < unknown or any(seconds <= 0 for _, seconds in iterations):
        raise ValueError(f"{unknown} iterations are needed, each longer than 0 s, and {len(iterations)} were given")
    rows = np.zeros((len(iterations), unknown))
    for row, (calls, seconds) in zip(rows, iterations, strict=True):
        for call in calls:
            row += np.array([1, *_stretches(call.tokens, bends), *call[1:]]) / seconds
    weights = tuple(float(weight) for weight in nonnegative_least_squares(rows, np.ones(len(rows))))
    fit = FittedCost(weights, tuple(bends), 0.0, launch_waits)
    errors = [abs(fit.seconds(calls) - seconds) / seconds for calls, seconds in iterations]
    return FittedCost(weights, fit.bends, sum(errors) / len(errors), launch_waits)


def _stretches(tokens: int, bends: Sequence[int]) -> list[int]:
    left, counts = tokens, []
    for before, bend in pairwise([0, *bends]):
        counts.append(min(left, bend - before))
        left -= counts[-1]
    return [*counts, left]
