"""A request of the paged engine: it holds blocks instead of a slot, and can lose them."""

from dataclasses import dataclass, field
from math import isnan

from tiny_llm_kit.course import task

from ..request import Request


@dataclass(eq=False)
class PagedRequest(Request):
    """A `Request` that keeps its own block table, and can be preempted: then its blocks go to others, and it waits again.

    `offset` counts the tokens whose keys and values are in its blocks or have been asked of the device. `in_flight` counts
    tokens that were launched and have not come back. `cached` counts the tokens that its last admission found in the prefix
    cache, and `published` the blocks of its table that the prefix cache also holds. `arrival` is its number among all requests
    that have ever waited.

    Args:
        priority: a lower number is served first.
        user: whose request it is; users of equal priority get equal shares.
        deadline: seconds on the engine's clock. Once it has passed, the request ends with a TimeoutError; None: never.
        See `Request` for the others.
    Raises:
        ValueError: as `Request`, or for a priority that is not a whole number, a user that is not a string, or a deadline that
            is not a number.
    """

    priority: int = 0
    user: str = ""
    deadline: float | None = None

    arrival: int | None = field(default=None, init=False)
    blocks: list[int] = field(default_factory=list, init=False)
    cached: int = field(default=0, init=False)
    published: int = field(default=0, init=False)
    in_flight: int = field(default=0, init=False)
    preemptions: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if type(self.priority) is not int:
            raise ValueError(f"priority is {self.priority!r}: it must be a whole number")
        if not isinstance(self.user, str):
            raise ValueError(f"user is {self.user!r}: it must be a string")
        if self.deadline is not None and (not isinstance(self.deadline, int | float) or isnan(self.deadline)):
            raise ValueError(f"deadline is {self.deadline!r}: it must be a number of seconds, or None")

    @property
    @task(week=3, day=4, number=1)
    def to_compute(self) -> int:
        """How many of its tokens, including those in flight, the model has not been given yet. Below 2 it decodes.

        After a preemption, the answer so far is computed again, as if it were part of the prompt.
        """
        return len(self.prompt) + len(self.generated_tokens) + self.in_flight - self.offset

    @property
    @task(week=3, day=4, number=1)
    def state(self) -> str:
        """`"waiting"` without blocks, then `"prefilling"` or `"decoding"`, and `"finished"`; derived from the counters."""
        if self.finish_reason is not None:
            return "finished"
        if not self.blocks:
            return "waiting"
        return "prefilling" if self.to_compute > 1 else "decoding"

    @task(week=3, day=4, number=1)
    def hold(self, blocks: list[int], cached: int = 0) -> None:
        """Begin with these blocks, whose first `cached` tokens have already been computed."""
        self.blocks, self.offset, self.cached = blocks, cached, cached

    @task(week=3, day=4, number=1)
    def let_go(self) -> list[int]:
        """Give up all blocks, and with them everything that was computed; return them to be given back to the pool."""
        blocks, self.blocks = self.blocks, []
        self.offset = self.cached = self.published = 0
        return blocks
