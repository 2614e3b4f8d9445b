"""Dynamic batching, between static and continuous: a group is closed when it is full or its oldest request has waited enough.

Inference servers for models without a KV cache work like this (Triton's dynamic batcher, with its `max_queue_delay`).
"""

import time
from collections.abc import Callable

from tiny_llm_kit.course import task

from ..model import Model
from ..request import Request
from ..request_book import RequestBook


class DynamicBatcher(RequestBook):
    """Serves requests in groups: one starts together, and nobody joins it before its longest answer is done.

    While no group runs, the next one is whoever waits, at most `batch_size`; it starts as soon as there are as many, or the
    one who came first has waited `max_wait` seconds. With `max_wait` 0 the next group is whoever is there when the last one is
    over: static batching, for requests that come at any time.

    An iteration computes one token for each row, or the prompts of a new group. Rows of answers that are done run on with the
    group, as in `run_static`, and `max_slots` in the log is `batch_size`.

    Args:
        model: see `Model`.
        batch_size: most requests of a group.
        max_wait: seconds.
        max_seq_len: most tokens a request may have, prompt and answer together.
        prefill_step: most prompt tokens per call of the model.
        clock: seconds.
    Raises:
        ValueError: if a size is less than 1, or `max_wait` is negative.
    """

    def __init__(
        self,
        model: Model,
        batch_size: int,
        max_wait: float = 0.0,
        *,
        max_seq_len: int = 512,
        prefill_step: int = 128,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        raise NotImplementedError

    @property
    @task(week=2, day=7, number=5)
    def idle_until(self) -> float | None:
        """When the next group starts if nobody else comes; None if it can start now, or a group runs, or nobody waits."""
        raise NotImplementedError

    @task(week=2, day=7, number=5)
    def step(self) -> list[Request]:
        """Run one iteration and return the requests that have ended since the last one; before `idle_until`, do nothing."""
        raise NotImplementedError
