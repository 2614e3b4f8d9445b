"""What a call of the model costs: fitted to a recorded run, or from what a machine can do at best."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from tiny_llm_kit.course import task
from tiny_llm_kit.models.config import ModelConfig


class Call(NamedTuple):
    """What one call of the model computes.

    Args:
        tokens: that go through the layers: one per row that decodes, and those of prompt chunks.
        outputs: those of them for which logits are wanted.
        context: keys that are read, summed over the sequences, padding included. This is what attention takes from memory.
        pairs: queries times the keys that each is multiplied with, summed. This is what attention computes.
    """

    tokens: int
    outputs: int
    context: int
    pairs: int


class CostModel(Protocol):
    """Takes the model's place in a simulation."""

    @property
    def launch_waits(self) -> bool:
        """Whether launching an iteration returns only when it is computed, or at once, so that others can plan meanwhile.

        On a GPU it returns at once. MLX's CPU backend lets only a few operations wait to be computed.
        """

    def seconds(self, calls: Sequence[Call]) -> float:
        """How long an iteration takes that makes these calls; 0 if it makes none."""


@dataclass(frozen=True)
class Roofline:
    """The least a call can take: it reads the weights and the keys and values once, and computes, and the slower of the two
    decides ("Roofline", Williams et al., CACM 2009).

    Args:
        flops: operations per second of the machine, for the numbers it computes with.
        bandwidth: bytes per second from memory.
        weights: parameters that every token is multiplied with, without the table of the output.
        output_weights: those of the output, which only tokens whose logits are wanted are multiplied with.
        bytes_per_weight: 4 in float32, 2 in half precision, about 0.56 in 4 bits with a scale and a bias per 64.
        kv_bytes: bytes of the keys and values of one token, in all layers.
        attention_flops: operations per pair of query and key, in all layers and heads.
        overhead: seconds per call, whatever it computes.
    """

    flops: float
    bandwidth: float
    weights: int
    output_weights: int
    bytes_per_weight: float
    kv_bytes: float
    attention_flops: float
    overhead: float = 0.0

    @task(week=2, day=7, number=6)
    def seconds(self, calls: Sequence[Call]) -> float:
        """See `CostModel.seconds`: for each call the overhead, and the time to read or the time to compute, if that is more."""
        raise NotImplementedError

    @property
    @task(week=2, day=7, number=6)
    def knee(self) -> float:
        """From how many rows on computing with the weights takes longer than reading them: below it a row costs nothing."""
        raise NotImplementedError


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

    Args:
        bytes_per_key: bytes of each number of the keys and values.
        For the others see `Roofline`.
    Raises:
        ValueError: if `flops`, `bandwidth` or a size is not above 0.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class FittedCost:
    """Seconds as a sum: so much per call, per token, … with weights from measured iterations.

    The time over the number of tokens bends: up to the knee a call reads weights, beyond it computes. So tokens beyond each of
    `bends` count once more.
    """

    weights: tuple[float, ...]
    bends: tuple[int, ...]
    error: float  # the mean of |predicted − measured| / measured, over the iterations it was fitted to

    def seconds(self, calls: Sequence[Call]) -> float:
        """See `CostModel.seconds`."""
        raise NotImplementedError


@task(week=2, day=7, number=6)
def fit_cost(iterations: Sequence[tuple[Sequence[Call], float]], bends: Sequence[int] = (8, 32)) -> FittedCost:
    """The weights that predict measured iterations best: least squares of the relative errors, and no weight below 0.

    Args:
        iterations: the calls of each, and how many seconds it took.
    Raises:
        ValueError: if there are fewer iterations than weights.
    """
    raise NotImplementedError
