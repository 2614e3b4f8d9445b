"""Drafters for tests: one that is always right, one that is wrong from some draft on, and the plain rule of the n-gram drafter.

Nothing here comes from the package under test.
"""

from collections.abc import Sequence


class Oracle:
    """Knows how sequences go on, and says so: all its drafts are right. About any other sequence it knows nothing.

    Args:
        sequences: prompts with their whole answers. No beginning that is asked about may belong to two that go on differently.
    """

    def __init__(self, *sequences: Sequence[int]) -> None:
        self.sequences = [list(sequence) for sequence in sequences]

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        known = list(tokens)
        for sequence in self.sequences:
            if sequence[: len(known)] == known:
                return sequence[len(known) :][:count]
        return []


class Adversary(Oracle):
    """As an `Oracle`, but only its first `right` drafts are; the others never are. With 0, none is accepted.

    What it says instead is a token that occurs in the sequence if there is one, so that it looks likely.
    """

    def __init__(self, *sequences: Sequence[int], right: int = 0) -> None:
        super().__init__(*sequences)
        self.right = right

    def propose(self, tokens: Sequence[int], count: int) -> list[int]:
        drafts = super().propose(tokens, count)
        likely = [*tokens, *drafts]
        return drafts[: self.right] + [
            next((token for token in likely if token != right), (right + 1) % 128) for right in drafts[self.right :]
        ]


def repeats(tokens: Sequence[int], count: int, max_n: int = 3, min_n: int = 2) -> list[int]:
    """What an n-gram drafter should propose, found by looking everywhere."""
    for n in range(min(max_n, len(tokens) - 1), min_n - 1, -1):
        for place in range(len(tokens) - 1, n - 1, -1):  # of the token that followed; the latest first
            if tokens[place - n : place] == tokens[len(tokens) - n :]:
                followed = list(tokens)
                for ahead in range(count):
                    followed.append(followed[place + ahead])  # which may be a draft itself
                return followed[len(tokens) :]
    return []
