"""A request of the simulated paged engine, which has no tokens, and what is launched for such requests."""

from dataclasses import dataclass, field

from ..measure.simulated_time import Launch
from .request import PagedRequest


@dataclass(eq=False)
class SimulatedRequest(PagedRequest):
    """What the scheduler asks of everyone in every step are plain numbers here, instead of being derived from tokens.

    `generated_tokens` are those that were known when it was admitted; what it generates while it runs is only counted.

    Args:
        all_launched, to_compute: see `Request` and `PagedRequest`.
        landmark: the `offset` at which something happens next: all that was known at admission is computed, or the last token
            is asked for.
    """

    all_launched: bool = field(default=False, init=False)
    to_compute: int = field(default=0, init=False)
    landmark: int = field(default=0, init=False)

    @property
    def known(self) -> int:
        """How many of its tokens were known when it was admitted, or are while it waits."""
        return len(self.prompt) + len(self.generated_tokens)

    @property
    def last_offset(self) -> int:
        """The `offset` at which the last token is asked for."""
        return len(self.prompt) + self.max_tokens - 1

    def first_tokens(self, count: int) -> list[int]:
        """So many of its tokens. Those of the answer are made up, and nobody else's."""
        return [*self.prompt[:count], *[~self.request_id] * (count - len(self.prompt))]


@dataclass(slots=True)
class PagedLaunch(Launch):
    """See `Launch`.

    Args:
        completed: who is asked for the first token since admission.
        ended: who is asked for the last one.
    """

    completed: list[SimulatedRequest] = field(default_factory=list)
    ended: list[SimulatedRequest] = field(default_factory=list)
