"""A discrete-event simulation of the paged engine, whose own scheduler, queue, pool and prefix cache decide.

See `measure.simulator`.
"""

from collections.abc import Iterable

from tiny_llm_kit.workloads.items import WorkItem

from ..measure.cost_model import CostModel
from ..measure.simulator import Readers


def simulate_paged(
    arrivals: Iterable[WorkItem],
    cost: CostModel,
    *,
    num_blocks: int,
    block_size: int = 16,
    max_num_seqs: int = 64,
    max_num_batched_tokens: int = 192,
    watermark: float = 0.01,
    prefix_caching: bool = True,
    readers: Readers = (),
) -> None:
    """Simulate `Engine`; for the arguments see there and `simulate_slots`."""
    raise NotImplementedError
