"""What a call of the model costs: fitted to a recorded run, or derived from the best that a machine can do."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from tiny_llm_kit.bench.least_squares import nonnegative_least_squares
from tiny_llm_kit.course import task
from tiny_llm_kit.models.config import ModelConfig


class Call(NamedTuple):
    """What one call of the model computes.

    Args:
        tokens: how many go through the layers: one per row that decodes, and those of prompt chunks.
        outputs: how many of them need logits.
        context: how many keys are read, summed over the sequences, padding included. This is what attention reads from memory.
        pairs: queries times the keys that each is multiplied by, summed. This is what attention computes.
    """

    tokens: int
    outputs: int
    context: int
    pairs: int


class CostModel(Protocol):
    """Takes the model's place in a simulation."""

    @property
    def launch_waits(self) -> bool:
        """Whether launching an iteration returns only when it is computed, or at once, which lets others plan meanwhile.

        On a GPU it returns at once. MLX's CPU backend lets only a few operations wait to be computed.
        """

    def seconds(self, calls: Sequence[Call]) -> float:
        """How long an iteration that makes these calls takes; 0 if it makes none."""


@dataclass(frozen=True)
class Roofline:
    """The least time that a call can take: it reads the weights and the keys and values once, and it computes; the slower of
    the two counts ("Roofline", Williams et al., CACM 2009).

    Args:
        flops: operations per second of the machine, for the numbers it computes with.
        bandwidth: bytes per second from memory.
        weights: parameters that every token is multiplied by, without the output table.
        output_weights: those of the output table, by which only tokens whose logits are wanted are multiplied.
        bytes_per_weight: 4 in float32, 2 in half precision, about 0.56 in 4 bits with a scale and a bias per 64.
        kv_bytes: bytes of the keys and values of one token, in all layers.
        attention_flops: operations per pair of query and key, in all layers and heads.
        overhead: seconds per call, independent of what it computes.
        launch_waits: see `CostModel`.
    """

    flops: float
    bandwidth: float
    weights: int
    output_weights: int
    bytes_per_weight: float
    kv_bytes: float
    attention_flops: float
    overhead: float = 0.0
    launch_waits: bool = False

    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        """See `CostModel.seconds`: for each call the overhead, plus the time to read or the time to compute, whichever is
        longer.

        A call that needs no logits does not read the output table.
        """
        raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")

    @property
    @task(week=2, day=7, number=6)
    def knee(self) -> float:
        """The number of rows from which computing with the weights takes longer than reading them: below it another row is
        free."""
        raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=6)
def roofline_of(
    config: ModelConfig,
    flops: float,
    bandwidth: float,
    bytes_per_weight: float,
    kv_bytes_per_number: float,
    overhead: float = 0.0,
) -> Roofline:
    """The roofline of a model on a machine; a product with m × n weights takes 2 m n operations per token.

    Only products count: norms, activations and embedding lookups are free. A tied table is read once, as the output's. A query
    is multiplied by a key, and the result by a value: 4 operations per number of a head.

    Args:
        kv_bytes_per_number: bytes of each number of the keys and values.
        For the others see `Roofline`.
    Raises:
        ValueError: if `flops`, `bandwidth` or a size is not above 0, or `overhead` is below 0.
    """
    raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")


@dataclass(frozen=True)
class FittedCost:
    """Seconds as a sum: a constant per call, one per token, and so on, with weights from measured iterations.

    The time over the number of tokens is not a straight line: up to the knee a call is bound by reading weights, beyond it by
    computing. So the tokens of a call have a different weight beyond each of `bends`.

    It does not know how keys and values are stored: gathering blocks costs a paged engine more than the same context costs a
    slot engine, so a fit to the slot engine predicts the paged one a little too fast.

    Args:
        weights: seconds per call, per token up to the first bend, per token from each bend on up to the next, per output,
            per key of the context, and per pair.
        bends: numbers of tokens, in ascending order.
        error: the mean of |predicted − measured| / measured, over the iterations it was fitted to.
        launch_waits: see `CostModel`.
    """

    weights: tuple[float, ...]
    bends: tuple[int, ...]
    error: float
    launch_waits: bool = False

    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        """See `CostModel.seconds`. A simulator calls this tens of thousands of times per second."""
        raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=6)
def fit_cost(
    iterations: Sequence[tuple[Sequence[Call], float]], bends: Sequence[int] = (8, 32), launch_waits: bool = False
) -> FittedCost:
    """The weights that predict measured iterations best: least squares of the relative errors, and no weight below 0.

    The errors are relative, so a step of 10 ms counts as much as one of a second. No weight is below 0, since computing more
    never takes less time: a weight that noise would make negative is 0, and the others are the best ones without it. The kit's
    `nonnegative_least_squares` finds them.

    Args:
        iterations: the calls of each, and how many seconds it took; the list is not changed.
        bends, launch_waits: see `FittedCost`.
    Raises:
        ValueError: if there are fewer iterations than weights, one took no time, or `bends` do not ascend from above 0.
    """
    raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")


@task(week=2, day=7, number=6)
def _features(call: Call, bends: Sequence[int]) -> np.ndarray:
    """What each weight is multiplied with: see `FittedCost`."""
    raise NotImplementedError("Week 2 Day 7, task 6: what a step costs. Read book/src/week2-07-measuring.md")
