"""A discrete-event simulation of the engine of slots: its own plan, strategy and slots decide, and a cost model computes.

As in the engine, an iteration is launched before the tokens of the one before are read, so that an end is seen one iteration
late. What the log is told is what the engine would tell it, but for the tokens after the first: of these, only the number.
"""

from collections.abc import Callable, Iterable, Sequence

from tiny_llm_kit.course import task
from tiny_llm_kit.workloads.items import WorkItem

from ..event_log import BatchState
from ..scheduling import Strategy
from .cost_model import CostModel

Readers = Sequence[Callable[[BatchState], None]]


@task(week=2, day=7, number=7)
def simulate_slots(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    max_batch_size: int,
    *,
    prefill_step: int = 128,
    strategy: Strategy | None = None,
    readers: Readers = (),
) -> None:
    """Simulate `ContinuousBatchScheduler`.

    Args:
        arrivals: by `arrival`; taken one by one, so that there may be any number. Every answer goes on to its `max_tokens`.
        readers: of the log.
    """
    raise NotImplementedError


@task(week=2, day=7, number=7)
def simulate_groups(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    batch_size: int,
    max_wait: float = 0.0,
    *,
    prefill_step: int = 128,
    readers: Readers = (),
) -> None:
    """Simulate `DynamicBatcher`; with `max_wait` 0, static batching."""
    raise NotImplementedError
