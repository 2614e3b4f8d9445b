"""A request of the simulated paged engine, which has no tokens, and the launches for such requests."""

from dataclasses import dataclass, field

from ..measure.simulated_time import Launch
from .request import PagedRequest


@dataclass(eq=False)
class SimulatedRequest(PagedRequest):
    """What the scheduler asks of every request in every step is a plain number here, instead of being derived from tokens.

    `generated_tokens` are those that were known at admission; what it generates while it runs is only counted.

    Args:
        all_launched, to_compute: see `Request` and `PagedRequest`.
        landmark: the `offset` at which something happens next: everything known at admission has been computed, or the last
            token is asked for.
    """

    all_launched: bool = field(default=False, init=False)
    to_compute: int = field(default=0, init=False)
    landmark: int = field(default=0, init=False)

    @property
    def known(self) -> int:
        """How many of its tokens were known when it was admitted or, while it waits, are known now."""
        return len(self.prompt) + len(self.generated_tokens)

    @property
    def last_offset(self) -> int:
        """The `offset` at which the last token is asked for."""
        return len(self.prompt) + self.max_tokens - 1

    def first_tokens(self, count: int) -> list[int]:
        """This many of its tokens. Those of the answer are made up, and unlike those of any other request."""
        return [*self.prompt[:count], *[~self.request_id] * (count - len(self.prompt))]


@dataclass(slots=True)
class PagedLaunch(Launch):
    """See `Launch`.

    Args:
        completed: the requests that are asked for their first token since admission.
        ended: those that are asked for their last one.
    """

    completed: list[SimulatedRequest] = field(default_factory=list)
    ended: list[SimulatedRequest] = field(default_factory=list)
