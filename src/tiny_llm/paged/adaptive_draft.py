"""How many drafts are worth checking in a step: many when they are right and the batch is small, none when it is full.

It does not look at tokens: it counts what was proposed and accepted.
"""

from collections.abc import Sequence

from tiny_llm_kit.course import task

PRIOR = 1.5, 2.5
"""A request begins as if 1.5 of 2.5 drafts had been accepted: some are tried, and a few wrong ones end it."""

MEMORY = 0.9
"""How much a draft still counts after one more update: about the last ten updates matter."""

RETRY = 16
"""If no draft is worth it in this many steps, the last of them tries one all the same: the text may have begun to repeat
itself."""

TILE = 8
"""Matrix products take this many tokens at a time: the ninth token of a step costs as much as the ninth to the sixteenth
together."""


class AdaptiveDraft:
    """Decides for one request how many tokens to draft in each step.

    With p as the share of drafts that turn out right, the k-th is useful with probability p^k, since all before it have to be
    right, too. It costs `token_cost` of a step. In that time, a step that makes one token for each of `rows` requests makes
    `token_cost · rows` tokens, so a draft that yields fewer is a loss.

    Args:
        most: the longest draft.
        token_cost: by what fraction one more token lengthens a step. On the course's machine, 16 more alongside 8 decodes took
            79 of 109 ms: 0.045 each.
    Raises:
        ValueError: if `most` is below 1, or `token_cost` negative.
    """

    def __init__(self, most: int = 8, token_cost: float = 0.045) -> None:
        if most < 1:
            raise ValueError(f"most is {most}: it must be at least 1 draft; for none, use an engine that does not speculate")
        if not token_cost >= 0:
            raise ValueError(f"token_cost is {token_cost}: it must be a part of a step, from 0 on")
        self.most = most
        self.token_cost = token_cost
        self._accepted, self._judged = PRIOR
        self._refused = 0  # steps in which no draft was worth it

    @task(week=3, day=5, number=4)
    def length(self, rows: int) -> int:
        """How many tokens to draft in this step, 0 … `most`. Call it once per step.

        Args:
            rows: requests that get a token in this step, this one included.
        """
        raise NotImplementedError("Week 3 Day 5, task 4: how many drafts are worth it. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=4)
    def update(self, proposed: int, accepted: int) -> None:
        """Note how many drafts were accepted. Those after the first wrong one were not judged, and don't count.

        Raises:
            ValueError: unless 0 ≤ accepted ≤ proposed.
        """
        raise NotImplementedError("Week 3 Day 5, task 4: how many drafts are worth it. Read book/src/week3-05-speculation.md")

    @task(week=3, day=5, number=4)
    def _retry(self) -> int:
        """Draft one token, and let everything before it count no more than it does: a few right ones bring the drafts back."""
        raise NotImplementedError("Week 3 Day 5, task 4: how many drafts are worth it. Read book/src/week3-05-speculation.md")


@task(week=3, day=5, number=4)
def whole_tiles(planned: int, lengths: Sequence[int]) -> list[int]:
    """Cut drafts that would start a tile of `TILE` tokens and fill no more than half of it: they then end with the tile before.

    A tile that also holds planned tokens is computed anyway, and drafts may fill it.

    Args:
        planned: tokens of the step without any drafts.
        lengths: of each request's draft; the drafts come after the planned tokens.
    Returns:
        The remaining lengths, in the same order. The longest draft loses its last token first.
    """
    raise NotImplementedError("Week 3 Day 5, task 4: how many drafts are worth it. Read book/src/week3-05-speculation.md")
